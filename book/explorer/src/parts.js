// The scripts beside the page, each with one thing in it, and the worker that is made of them.

/** Load explorer/<name>.js once; resolves to what it holds. */
export async function part(name, key = name) {
  if (!self.explorerParts?.[key]) {
    await new Promise((resolve, reject) => {
      const script = document.createElement('script');
      script.src = `explorer/${name}.js`;
      script.onload = resolve;
      script.onerror = () =>
        reject(
          new Error(
            `explorer/${name}.js is missing beside this page. Run "make explorer", and keep page and folder together.`,
          ),
        );
      document.head.append(script);
    });
  }
  return self.explorerParts[key];
}

/** Compressed bytes that came as text -> Uint8Array. */
export async function unpack(text) {
  const stream = (await fetch(`data:application/octet-stream;base64,${text}`)).body;
  return new Uint8Array(await new Response(stream.pipeThrough(new DecompressionStream('gzip'))).arrayBuffer());
}

const PATIENCE = 120_000; // milliseconds without a word from the worker while it has something to do

/** A worker with the runtime in it: ask(job, settings, onPartial) and stop(id). */
export class Client {
  constructor(onCrash) {
    this.onCrash = onCrash;
    this.waiting = new Map();
    this.opened = new Map();
    this.count = 0;
    this.patience = PATIENCE;
  }

  async start() {
    const [text, wasm] = await Promise.all([part('worker'), part('runtime', 'wasm').then(unpack)]);
    const address = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
    this.worker = new Worker(address);
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.crash(event.message);
    };
    await this.ask('start', { wasm: wasm.buffer }).done;
  }

  /** Loads a network's files at its first use. */
  open(name) {
    if (!this.opened.has(name)) {
      const job = async () => {
        this.started ??= this.start();
        const [files] = await Promise.all([part(name), this.started]);
        const [graph, weights] = await Promise.all([unpack(files.graph), unpack(files.weights)]);
        await this.ask('open', { name, facts: self.explorerParts.networks[name], graph, weights }).done;
      };
      const ready = job();
      ready.catch(() => {
        this.opened.delete(name);
      });
      this.opened.set(name, ready);
    }
    return this.opened.get(name);
  }

  ask(job, settings, onPartial = () => {}) {
    const id = ++this.count;
    const done = new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, onPartial });
    });
    this.worker.postMessage({ id, job, ...settings });
    this.watch();
    return { id, done };
  }

  /** A worker that the browser ended, for want of memory perhaps, says nothing: so silence counts. */
  watch() {
    clearTimeout(this.timer);
    if (this.waiting.size) this.timer = setTimeout(() => this.crash('it was silent for too long'), this.patience);
  }

  stop(id) {
    this.worker?.postMessage({ stop: id });
  }

  receive({ id, partial, result, stopped, seconds, error }) {
    const asked = this.waiting.get(id);
    if (!asked) return;
    if (partial) {
      this.watch();
      return void asked.onPartial(partial);
    }
    this.waiting.delete(id);
    this.watch();
    if (error) asked.reject(new Error(error));
    else asked.resolve({ ...result, stopped, seconds });
  }

  crash(message) {
    this.worker.terminate();
    clearTimeout(this.timer);
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
    this.opened.clear();
    this.started = null;
    this.onCrash(message);
  }
}
