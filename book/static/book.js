// Figures open at full size; a table that a phone cannot hold becomes a list; on paper everything is unfolded.
document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll(".cell_output img")) {
    const link = document.createElement("a");
    link.href = image.src;
    link.className = "figure-link";
    link.title = "Open the figure at full size";
    image.replaceWith(link);
    link.append(image);
    const shape = () => link.classList.toggle("wide", image.naturalWidth > 2 * image.naturalHeight);
    image.complete ? shape() : image.addEventListener("load", shape);
  }
  for (const table of document.querySelectorAll(".bd-article table.table")) {
    const columns = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, i) => {
        if (columns[i]) cell.dataset.column = columns[i];
        cell.classList.toggle("blank", !cell.textContent.trim());
      });
    }
    const pictures = table.querySelector("img");
    if (!pictures && table.scrollWidth > table.parentElement.clientWidth + 1) table.classList.add("stacked");
  }
  for (const block of document.querySelectorAll(".bd-article pre, .bd-article div.math")) block.tabIndex = 0;
});

window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    details.dataset.forPrint = "";
  }
});
window.addEventListener("afterprint", () => {
  for (const details of document.querySelectorAll("details[data-for-print]")) {
    details.open = false;
    delete details.dataset.forPrint;
  }
});
