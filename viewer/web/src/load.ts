// The drawing comes as a script of its own, which is a hundred times the size of the page.

type Drawing = typeof import("./stage");
declare global {
  interface Window {
    splatdistillStage?: Drawing; // there from the start in an exported page
  }
}
let coming: Promise<Drawing> | null = null;

/** The module that draws, once it is here. Rejects, one sentence, where it cannot be fetched. */
export function drawing(): Promise<Drawing> {
  if (window.splatdistillStage) return Promise.resolve(window.splatdistillStage);
  coming ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "stage.js";
    script.onload = () => resolve(window.splatdistillStage as Drawing);
    script.onerror = () => {
      coming = null;
      reject(new Error("The renderer did not load. Reload the page."));
    };
    document.head.append(script);
  });
  return coming;
}
