// Follows a run: its state and numbers as they come, its splats at the pace at which they can be drawn.

import * as api from "./api";

export interface Listener {
  manifest(now: api.Manifest): void;
  metrics(all: api.Metric[]): void;
  splats(bytes: Uint8Array, kind: api.Kind, step: number | null): Promise<void>;
  connection(well: boolean): void;
  gone(sentence: string): void;
}

const RETRY = 3000; // ms

export class Live {
  shown = -1;
  readonly ids: number[] = [];
  private source: EventSource | null = null;
  private readonly records = new Map<number, api.Metric>();
  private newest = -1;
  private pulling = false;
  private closed = false;
  private retry = 0;

  /** finished: the end of the run is shown already. */
  constructor(
    readonly id: string,
    private finished: boolean,
    private readonly listener: Listener,
  ) {
    document.addEventListener("visibilitychange", this.visibility);
    this.open();
  }

  close(): void {
    this.closed = true;
    document.removeEventListener("visibilitychange", this.visibility);
    this.stop();
  }

  private readonly visibility = (): void => {
    if (document.hidden) this.stop();
    else if (!this.source) this.open();
  };

  private stop(): void {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  private open(): void {
    const source = new EventSource(`/api/runs/${this.id}/events`);
    this.source = source;
    source.onopen = () => this.listener.connection(true);
    source.onerror = () => {
      this.listener.connection(false);
      if (source.readyState !== EventSource.CLOSED || this.closed) return;
      this.stop();
      this.retry = window.setTimeout(() => this.open(), RETRY);
    };
    source.addEventListener("reset", () => {
      this.records.clear();
      this.newest = this.shown = -1;
    });
    source.addEventListener("metrics", (event) => {
      for (const record of JSON.parse(event.data) as api.Metric[]) this.records.set(record.step, record);
      this.listener.metrics([...this.records.values()].sort((a, b) => a.step - b.step));
    });
    source.addEventListener("state", (event) => this.take(JSON.parse(event.data) as api.Manifest));
    source.addEventListener("gone", (event) => {
      this.close();
      this.listener.gone((JSON.parse(event.data) as { message: string }).message);
    });
  }

  private take(now: api.Manifest): void {
    this.listener.manifest(now);
    this.newest = now.snapshot ?? this.newest;
    const done = now.status === "done" && now.has_splats === true;
    if (done && !this.finished) void this.finish();
    else if (!done && this.newest > this.shown) void this.pull();
    this.finished = done;
  }

  private async finish(): Promise<void> {
    try {
      await this.listener.splats(await api.splats(this.id), "ply", null);
    } catch {
      this.listener.connection(false);
    }
  }

  /** Asks for the newest splats, draws them, and asks again if there are newer ones by then. */
  private async pull(): Promise<void> {
    if (this.pulling) return;
    this.pulling = true;
    try {
      while (!this.closed && this.newest > this.shown) {
        const found = await api.snapshot(this.id, this.shown);
        if (!found) break;
        await this.listener.splats(found.bytes, "splat", found.step);
        this.shown = found.step;
        this.ids.push(found.step);
        if (this.ids.length > 100) this.ids.shift();
      }
    } catch {
      this.listener.connection(false);
    } finally {
      this.pulling = false;
    }
  }
}
