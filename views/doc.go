// Package views holds the pages as templ components. A view does no I/O and decides nothing beyond what to show: it
// takes a struct with exactly what it shows.
//
// To add a page:
//
//  1. Write views/<page>.templ with a component that begins with @Layout(page) { … } and takes a struct of its own as
//     its second argument. Its content stands in <div class="page"> (centred, 1120 px) or fills the width.
//  2. Use the components of views/parts for everything that has a name there, and views/format for times, sizes,
//     fingerprints and numbers. /settings/parts shows each part in each state.
//  3. Put rules that only this page needs into static/css/3x-<page>.css, in @layer pages { … }. Use the tokens of
//     static/css/00-tokens.css; never a colour, and never a space outside the scale.
//  4. Put its script into static/<page>.js and its name into Page.Modules. Without the script everything must work.
//  5. Generate from the top of the repository, where the names of files in errors begin: make generate, or templ
//     generate -f views/<page>.templ. Commit the _templ.go files.
//
// What the policy header forbids: style attributes, <style>, inline <script>, on… attributes. So bars are SVG
// rectangles with a width in percent and fill="var(--ok)" or fill="url(#hatch-ok)", symbols are <use href="#name"> from
// static/icons.svg, and templ's css and script templates are not used.
//
// Text from strangers (names from certificates, SNI, ALPN, headers, file names) goes through parts.Text, and in
// attributes through format.Visible. templ escapes HTML by itself.
//
// Every form of method post holds @parts.Token(page.CSRF), which parts.Form and parts.ButtonForm do by themselves.
package views
