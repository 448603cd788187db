// The list of operations is plain HTML. This puts an interactive reference in its place, when it is asked for.

const button = document.getElementById("try");

function load(address) {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: address, onload: resolve, onerror: reject });
    document.head.append(script);
  });
}

if (button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: button.dataset.style }));
    await load(button.dataset.script);
    document.getElementById("plain").hidden = true;
    document.getElementById("reference").hidden = false;
    button.hidden = true;
    window.SwaggerUIBundle({
      url: button.dataset.definition,
      dom_id: "#reference",
      deepLinking: false,
      docExpansion: "list",
      validatorUrl: null,
    });
  });
}
