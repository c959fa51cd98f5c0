// The search of the site runs in a worker, which browsers refuse to pages that were opened from the disk. For these
// pages a hidden frame takes the worker's place.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      const inside = frame.contentWindow;
      this.loaded = new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        script.onload = () => resolve(inside);
        script.onerror = () => reject(new Error(`${url} cannot be loaded`));
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        script.src = url;
        inside.document.body.appendChild(script);
      });
    }

    postMessage(data) {
      this.loaded.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {}
  };
}
