'use strict';
// A table is sorted by the heading that is pressed: the largest number first,
// names from A on, and the other way round when it is pressed again. What has
// no number stays at the end.
(() => {
  const numberOf = (cell) => (cell.dataset.value === undefined ? null : Number(cell.dataset.value));

  function compare(a, b, isNumeric, sign) {
    if (!isNumeric) return sign * a.textContent.localeCompare(b.textContent);
    const [x, y] = [numberOf(a), numberOf(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x - y);
  }

  function sortBy(table, headings, place) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const isNumeric = rows.some((row) => numberOf(row.cells[place]) !== null);
    const [first, second] = isNumeric ? ['descending', 'ascending'] : ['ascending', 'descending'];
    const order = headings[place].getAttribute('aria-sort') === first ? second : first;
    const sign = order === 'ascending' ? 1 : -1;
    for (const heading of headings) heading.removeAttribute('aria-sort');
    headings[place].setAttribute('aria-sort', order);
    rows.sort((a, b) => compare(a.cells[place], b.cells[place], isNumeric, sign));
    body.append(...rows);
  }

  for (const table of document.querySelectorAll('table.board')) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, place) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener('click', () => sortBy(table, headings, place));
    });
  }
})();
