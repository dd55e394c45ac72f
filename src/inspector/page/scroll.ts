/** Scrolls one box and nothing around it: `scrollIntoView` would move the whole page under the reader on a narrow screen. */
export function showIn(scroller: Element | null, element: Element | null): void {
  if (scroller === null || element === null) return;
  const outer = scroller.getBoundingClientRect();
  const inner = element.getBoundingClientRect();
  if (inner.top >= outer.top && inner.bottom + UNDER <= outer.bottom) return;
  scroller.scrollTop += inner.top + inner.height / 2 - (outer.top + outer.height / 2);
}

/** What stands below belongs to it: the time under a state. */
const UNDER = 14;
