// A file that is dropped anywhere on the page goes the way of the form: into its file field, and off to the preview.
// Nothing is stored before a button is pressed there.

const form = document.querySelector('form[data-upload]');
const field = form?.querySelector('input[type=file]');
const zone = form?.querySelector('[data-zone]');

if (form instanceof HTMLFormElement && field instanceof HTMLInputElement) {
  field.addEventListener('change', () => { if (field.files?.length) form.requestSubmit(); });
  document.addEventListener('dragover', (event) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    zone?.classList.add('over');
  });
  document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) zone?.classList.remove('over'); });
  document.addEventListener('drop', (event) => {
    zone?.classList.remove('over');
    const files = event.dataTransfer?.files;
    if (!files?.length) return;
    event.preventDefault();
    field.files = files;
    form.requestSubmit();
  });
}
