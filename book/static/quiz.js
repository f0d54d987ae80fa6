// Turns each question of a page into a form that answers at once. Without this script the answers stand folded below.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("div.quiz").forEach((quiz, index) => {
    const answers = quiz.querySelector("details.answers");
    const right = answers.querySelector("strong").textContent;
    // label of an answer -> what is said to it, without the label
    const why = new Map([...answers.querySelectorAll("li")].map((item) => {
      const label = item.querySelector("strong");
      const said = item.cloneNode(true);
      said.querySelector("strong").nextSibling.textContent = said.querySelector("strong").nextSibling.textContent.slice(2);
      said.querySelector("strong").remove();
      return [label.textContent, said];
    }));
    const choices = [...quiz.querySelectorAll(":scope > ul > li")];
    const verdict = Object.assign(document.createElement("div"), { className: "verdict" });
    verdict.setAttribute("role", "status");
    const say = (key, correct) => {
      verdict.className = `verdict ${correct ? "right" : "wrong"}`;
      const word = Object.assign(document.createElement("strong"), { textContent: correct ? "Right. " : "Not yet. " });
      verdict.replaceChildren(word, ...[...why.get(key).cloneNode(true).childNodes]);
      if (window.MathJax && MathJax.typesetPromise) MathJax.typesetPromise([verdict]);
    };
    const form = document.createElement("form");
    form.addEventListener("submit", (event) => event.preventDefault());
    (choices.length ? asChoices : asNumber)(form, choices, right, why, say, index);
    form.append(verdict);
    quiz.querySelector(":scope > ul")?.remove();
    answers.before(form);
    answers.remove();
    const title = quiz.querySelector("p");
    title.id = `question-${index}`;
    form.setAttribute("aria-labelledby", title.id);
  });
});

function asChoices(form, choices, right, why, say, index) {
  for (const choice of choices) {
    const letter = choice.querySelector("strong").textContent;
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: `q${index}`, value: letter });
    const text = document.createElement("span");
    text.append(...choice.childNodes);
    label.append(input, text);
    input.addEventListener("change", () => say(letter, letter === right));
    form.append(label);
  }
}

function asNumber(form, choices, right, why, say, index) {
  const input = Object.assign(document.createElement("input"), { type: "text", inputMode: "text", id: `number-${index}` });
  const label = Object.assign(document.createElement("label"), { textContent: "Your number ", htmlFor: input.id });
  const button = Object.assign(document.createElement("button"), { type: "submit", textContent: "Answer" });
  label.className = "number";
  form.append(label, input, " ", button);
  form.addEventListener("submit", () => {
    const value = asValue(input.value);
    if (Number.isNaN(value)) {
      form.lastElementChild.className = "verdict wrong";
      form.lastElementChild.textContent = "Type a number, such as 0.25, 1/4 or -3.";
      return;
    }
    const near = [...why.keys()].find((key) => Math.abs(value - Number(key)) <= Math.max(0.01 * Math.abs(Number(key)), 1e-9));
    say(near ?? "Any other number", near !== undefined && Number(near) === Number(right));
  });
}

// "0.25", "0,25", "1/4", "25 %"
function asValue(text) {
  const [, above, below, percent] = /^\s*([-+]?[\d.,eE-]+)\s*(?:\/\s*([\d.,]+))?\s*(%?)\s*$/.exec(text) ?? [];
  const number = (part) => Number(part.replace(",", "."));
  return above === undefined ? NaN : number(above) / (below ? number(below) : 1) / (percent ? 100 : 1);
}
