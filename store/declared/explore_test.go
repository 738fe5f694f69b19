package declared
import ("testing";"strings";"runtime";"fmt";"github.com/goccy/go-yaml/ast")
func TestExplore(t *testing.T){
 alpha:=[]string{"- ","a: ","? ","[","{","]","}",", ","a ",": ","\n","  ","&a ","*a ","! ","'","\"","| ","> ","#","# ","a:\n","- a\n","  - a\n","<<: ","--- ","...\n","%","\t","'a' ","\"a\" ","|\n","\n a","1 ","~ ","a, ","{a: b}, ","[a], ", "a: b, ", "&a a, ", "*a, ", "a: b\n", "a: {b: c}\n", "- a: b\n", " a: b\n","|\n a\n", "k: |\n a\n","a: 'b\n","\"a\": 'b'\n","a: &a b\n","a: *a\n"}
 cost:=func(s string) uint64 { var m,n runtime.MemStats; runtime.ReadMemStats(&m)
  r:=&reader{file:"f",getenv:environment,aliases:map[*ast.AliasNode]*ast.AnchorNode{},places:map[string]place{}}
  d:=&Declaration{}
  if root:=r.syntax([]byte(s));root!=nil{r.document(root,d)}
  runtime.ReadMemStats(&n); return n.TotalAlloc-m.TotalAlloc }
 pre:=[]string{"","a: [","a: {","a:\n - "}
 var units []string
 for _,a:=range alpha{units=append(units,a); for _,b:=range alpha{units=append(units,a+b)}}
 for _,p:=range pre{ for _,u:=range units{
  c1:=cost(p+strings.Repeat(u,300)); c2:=cost(p+strings.Repeat(u,1200))
  if c2>8*c1 && c2>3<<20 { fmt.Printf("%q %q %d %d\n",p,u,c1>>10,c2>>10)}
 }}
}
