// One key a label: r, w, s and u press the buttons that name them. Everything works without this file as well.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.target.closest("input, select, textarea")) return;
  const button = document.querySelector(`button[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (button) {
    event.preventDefault();
    button.click();
  }
});

// A proof that only pages of this very port can read goes with every form: a cookie is sent to other ports as well.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || form.elements.proof) return;
  let proof = null;
  try {
    proof = localStorage.getItem("serve-graph-proof");
    if (!proof && form.elements.key) {
      const drawn = String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32)));
      proof = btoa(drawn).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
      localStorage.setItem("serve-graph-proof", proof);
    }
  } catch { return; } // without storage a session is begun that needs none
  if (!proof) return;
  const field = document.createElement("input");
  Object.assign(field, { type: "hidden", name: "proof", value: proof });
  form.append(field);
});
