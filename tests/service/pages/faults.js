// What is wrong with a page, as a list of texts: labels, names, headings, ids, markup, width, contrast.
() => {
  const faults = [];
  const shown = (e) => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const named = (e) => (e.getAttribute('aria-label') || '').trim()
    || (e.getAttribute('aria-labelledby') || '').split(/\s+/).map((id) => document.getElementById(id)?.textContent || '').join('').trim()
    || (e.labels && Array.from(e.labels).map((l) => l.textContent).join('').trim())
    || (e.textContent || '').trim();
  if (!document.documentElement.lang) faults.push('no language');
  if (!document.title.trim()) faults.push('no title');
  if (document.querySelectorAll('main').length !== 1) faults.push('not one main');
  if (document.querySelectorAll('h1').length !== 1) faults.push('not one h1');
  let before = 1;
  for (const h of document.querySelectorAll('main h1, main h2, main h3, main h4')) {
    const level = Number(h.tagName[1]);
    if (level > before + 1) faults.push(`heading ${h.textContent} skips a level`);
    if (!h.textContent.trim()) faults.push('empty heading');
    before = level;
  }
  for (const e of document.querySelectorAll('input:not([type=hidden]):not([hidden]), select, textarea:not([hidden])')) {
    const label = e.labels && e.labels.length ? e.labels[0].textContent.trim() : (e.getAttribute('aria-label') || '').trim();
    if (!label) faults.push(`no label: ${e.outerHTML.slice(0, 80)}`);
  }
  for (const e of document.querySelectorAll('a[href], button, summary'))
    if (!named(e)) faults.push(`no name: ${e.outerHTML.slice(0, 80)}`);
  for (const e of document.querySelectorAll('table'))
    if (!e.caption && !e.getAttribute('aria-label')) faults.push('table without a caption');
  for (const e of document.querySelectorAll('th')) if (!e.scope) faults.push(`th without scope: ${e.textContent}`);
  for (const e of document.querySelectorAll('svg'))
    if (!e.closest('[aria-hidden=true]') && e.getAttribute('role') !== 'img') faults.push(`svg without role: ${e.outerHTML.slice(0, 60)}`);
  const ids = Array.from(document.querySelectorAll('[id]')).map((e) => e.id);
  for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) faults.push(`id ${id} twice`);
  for (const attribute of ['aria-labelledby', 'aria-describedby', 'for'])
    for (const e of document.querySelectorAll(`[${attribute}]`))
      for (const id of e.getAttribute(attribute).split(/\s+/))
        if (!document.getElementById(id)) faults.push(`${attribute} leads nowhere: ${id}`);
  for (const e of document.querySelectorAll('[style], script:not([src])')) faults.push(`inline: ${e.outerHTML.slice(0, 60)}`);
  for (const e of document.querySelectorAll('*'))
    for (const a of e.attributes) if (a.name.startsWith('on')) faults.push(`handler in markup: ${a.name}`);
  for (const e of document.querySelectorAll('[tabindex]')) if (e.tabIndex > 0) faults.push('tabindex over 0');
  const wide = document.documentElement.scrollWidth;
  if (wide > document.documentElement.clientWidth) {
    const out = Array.from(document.querySelectorAll('main *')).filter((e) => e.getBoundingClientRect().right > innerWidth + 1);
    faults.push(`scrolls sideways: ${wide} px; ${out.slice(0, 3).map((e) => e.outerHTML.slice(0, 80))}`);
  }
  // Contrast of every text with what lies below it.
  const parse = (text) => {
    const srgb = text.match(/color\(srgb ([^)]*)\)/);
    if (srgb) { const n = srgb[1].split(/[ /]+/).map(Number); return [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1]; }
    const n = text.match(/[\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.textContent.trim() || e.closest('svg, script, style, title, .away, .skip') || !shown(e)) continue;
    const style = getComputedStyle(e);
    const below = ground(e), text = over(parse(style.color), below);
    const [a, b] = [light(text), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.add(`contrast ${ratio.toFixed(2)}: ${e.tagName} ${e.className} ${node.textContent.trim().slice(0, 30)}`);
  }
  return faults.concat(Array.from(poor));
}
