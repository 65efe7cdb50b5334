/**
 * A document for programs that write styles as text.
 *
 * Why here: the page's Content-Security-Policy allows no inline style, and needs not to: what CSSOM sets is allowed
 * (CSP level 3, 6.7.3.3; constructed style sheets). Route in: a document. Route out: one that passes `instanceof Document`,
 * whose `<style>` elements fill a constructed sheet and whose elements take a `style` attribute as declarations.
 */

export interface Styled {
  document: Document;
  /** Calls `make` while the page itself creates elements in the same way. */
  during: (make: () => void) => void;
  /** Removes the sheets. */
  release: () => void;
}

export function documentFor(page: Document): Styled {
  const sheets: CSSStyleSheet[] = [];
  const createElement = Document.prototype.createElement.bind(page) as (name: string) => HTMLElement;
  const style = (): HTMLElement => {
    const sheet = new CSSStyleSheet();
    sheets.push(sheet);
    page.adoptedStyleSheets.push(sheet);
    const element = createElement("span");
    element.hidden = true;
    Object.defineProperty(element, "textContent", {
      get: () => "",
      set: (text: string) => sheet.replaceSync(text),
    });
    return element;
  };
  const plain = (name: string): HTMLElement => {
    const element = createElement(name);
    const { setAttribute } = element;
    element.setAttribute = (key: string, value: string) => {
      if (key === "style") element.style.cssText = value;
      else setAttribute.call(element, key, value);
    };
    return element;
  };
  const create = (name: string): HTMLElement => (name.toLowerCase() === "style" ? style() : plain(name));
  const shown = new Proxy(page, {
    get(target, key) {
      if (key === "createElement") return create;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? (value as (...all: unknown[]) => unknown).bind(target) : value;
    },
    set: (target, key, value) => Reflect.set(target, key, value, target),
  });
  const during = (make: () => void) => {
    page.createElement = create as typeof page.createElement;
    try {
      make();
    } finally {
      // What the prototype has is in force again.
      delete (page as Partial<Document>).createElement;
    }
  };
  const release = () => {
    page.adoptedStyleSheets = page.adoptedStyleSheets.filter((sheet) => !sheets.includes(sheet));
  };
  return { document: shown, during, release };
}
