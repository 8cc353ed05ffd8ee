// Browsers refuse workers to pages that are read from files, and the search of this site is one.
// Here a hidden frame of the page's own origin takes the worker's place.
(() => {
  if (location.protocol !== "file:") return;

  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      const inside = this.frame.contentWindow;
      // A document of our own: Firefox replaces the one it begins with.
      inside.document.open();
      inside.document.write("<body></body>");
      inside.document.close();
      // What a worker calls; scripts that it imports run one after the other, in order.
      inside.postMessage = (data) => this.answer(data);
      inside.importScripts = (...scripts) =>
        scripts.reduce((before, script) => before.then(() => this.run(script)), Promise.resolve());
      this.run(new URL(url, location.href).href).then(() => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((data) => this.postMessage(data));
      });
    }

    run(script) {
      return new Promise((done, failed) => {
        const tag = this.frame.contentDocument.createElement("script");
        tag.src = script;
        tag.onload = done;
        tag.onerror = failed;
        this.frame.contentDocument.body.append(tag);
      });
    }

    answer(data) {
      const event = new MessageEvent("message", { data });
      if (this.onmessage) this.onmessage(event);
      this.dispatchEvent(event);
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else {
        const inside = this.frame.contentWindow;
        inside.dispatchEvent(new inside.MessageEvent("message", { data }));
      }
    }

    terminate() {
      this.frame.remove();
    }
  }

  window.Worker = FrameWorker;
})();
