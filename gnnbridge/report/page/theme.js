const root = document.documentElement;
root.classList.add('js');

// Light and dark, and what is folded up on the screen but printed.

const themeButton = document.getElementById('theme');
const darkSystem = matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (root.dataset.theme || (darkSystem.matches ? 'dark' : 'light')) === 'dark';
function showTheme() {
  themeButton.setAttribute('aria-pressed', String(isDark()));
  themeButton.querySelector('span').textContent = isDark() ? 'Light' : 'Dark';
  themeButton.setAttribute('aria-label', isDark() ? 'Use the light theme' : 'Use the dark theme');
}
themeButton.addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark';
  showTheme();
});
darkSystem.addEventListener('change', showTheme);
showTheme();

// What is folded up on the screen is printed.
let opened = [];
addEventListener('beforeprint', () => {
  opened = [...document.querySelectorAll('details:not([open])')];
  for (const item of opened) item.open = true;
});
addEventListener('afterprint', () => {
  for (const item of opened) item.open = false;
  opened = [];
});
