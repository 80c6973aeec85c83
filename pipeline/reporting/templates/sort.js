// Sort buttons for tables; without scripts the tables stay in the paper's order.
document.querySelectorAll("table.sortable").forEach((table) => {
  const body = table.tBodies[0], rows = [...body.rows], grid = [];
  [...table.tHead.rows].forEach((row, depth) => {          // which column each heading stands over, row and column spans counted
    grid[depth] ||= [];
    [...row.cells].forEach((head) => {
      let column = 0;
      while (grid[depth][column]) column += 1;
      for (let down = 0; down < head.rowSpan; down += 1) for (let right = 0; right < head.colSpan; right += 1) (grid[depth + down] ||= [])[column + right] = head;
    });
  });
  const value = (row, column) => {                          // a cell may span several columns, too; data-sort: what it stands for
    let at = 0;
    for (const cell of row.cells) { at += cell.colSpan; if (column < at) return cell.dataset.sort ?? cell.textContent.trim().replaceAll("\u2009", "").replace("−", "-").replace(/^[▲▼] /, ""); }
    return "";
  };
  grid.at(-1).forEach((head, column) => {
    if (head.colSpan > 1 || head.querySelector("button")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const key = (row) => { const text = value(row, column), number = parseFloat(text); return Number.isNaN(number) ? text : number; };
      const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? 1 : -1;
      rows.forEach((row) => row.classList.remove("new"));
      body.append(...[...rows].sort((a, b) => sign * order(key(a), key(b))));
    });
  });
});
