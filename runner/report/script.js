// Draws the page of its data; see report.h for what they hold. No library, and nothing is loaded.
'use strict';

const data = JSON.parse(document.getElementById('data').textContent);
const byId = id => document.getElementById(id);
const runs = new Map(data.runs.map(r => [r.id, r]));

// ---- Elements, texts and numbers ----

const svgNames = new Set(['svg', 'g', 'path', 'line', 'text', 'title']);
function make(tag, attributes = {}, ...children) {
  const e = svgNames.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag)
                              : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children) {
    if (child !== null && child !== undefined) e.append(child);
  }
  return e;
}

function count(n) {
  if (n === null || n === undefined) return '';
  if (Math.abs(n) >= 1e9) return (n / 1e9).toPrecision(4) + ' G';
  if (Math.abs(n) >= 1e6) return (n / 1e6).toPrecision(4) + ' M';
  return Math.round(n).toLocaleString('en');
}
function decimal(n, digits = 4) {
  if (n === null || n === undefined) return '';
  return String(Number(n.toPrecision(digits)));
}
const percent = n => n.toFixed(2) + ' %';
function withUnit(n, unit) {
  return n === null || n === undefined ? '' : unit === '%' ? percent(n) : decimal(n) + (unit ? ' ' + unit : '');
}
function spread(v, text) {  // {mean, deviation, n}
  if (!v || v.mean === null) return '';
  return text(v.mean) + (v.deviation === null ? '' : ' ± ' + text(v.deviation).replace(' %', ''));
}
function duration(seconds) {
  if (seconds === null || seconds === undefined) return '';
  const s = Math.round(seconds), pad = n => String(n).padStart(2, '0');
  return s >= 3600 ? `${Math.floor(s / 3600)}:${pad(Math.floor(s / 60) % 60)}:${pad(s % 60)}`
                   : `${Math.floor(s / 60)}:${pad(s % 60)}`;
}
const colours = 8;
const colour = i => `var(--c${i % colours})`;
function titleOf(paper, section) {
  if (section === '') return paper;
  const m = /^([tf])(\d+)$/.exec(section);
  const what = m ? (m[1] === 't' ? 'Table ' : 'Figure ') + m[2] : section;
  return /^\d{3}$/.test(paper) ? `Paper ${paper}: ${what}` : `${paper}: ${what}`;
}
const anchor = (paper, section) => `${paper}-${section}`.replace(/[^\w-]/g, '_');

// ---- Charts ----

function ticks(low, high, log) {
  if (log) {
    const marks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); ++e) {
      for (const m of [1, 2, 5]) marks.push(m * 10 ** e);
    }
    const inside = marks.filter(v => v >= low * .999 && v <= high * 1.001);
    return inside.length > 8 ? inside.filter(v => /^1/.test(v.toExponential())) : inside;
  }
  const raw = (high - low) / 5 || 1, base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(m => m * base).find(s => s >= raw);
  const marks = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) {
    marks.push(Number(v.toPrecision(12)));
  }
  return marks;
}

// A mark at a place. Series beyond the number of colours have other shapes and broken lines.
const shapes = ['M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0', 'M-4.5 -4.5h9v9h-9z', 'M0 -6l5.5 10h-11z',
                'M0 -6.5l6 6.5l-6 6.5l-6 -6.5z'];
const dashes = [null, '6 3', '2 3', '8 3 2 3'];
const cycle = i => Math.floor(i / colours) % shapes.length;

// series: [{name, points: [[x, y, title, action, deviation of y]], line: true}]; line: no marks; joined: both.
function chart(series, {x, y, log = false, width = 760, height = 340, label}) {
  const left = 64, right = 16, top = 12, bottom = 44;
  const points = series.flatMap(s => s.points).filter(p => p[1] !== null && (!log || p[0] > 0));
  if (points.length === 0) return make('p', {}, 'No numbers to draw.');
  const range = (values, margin) => {
    let low = Math.min(...values), high = Math.max(...values);
    if (low === high) { low -= Math.abs(low) * .1 || 1; high += Math.abs(high) * .1 || 1; }
    const m = (high - low) * margin;
    return [low - m, high + m];
  };
  const xs = points.map(p => log ? Math.log10(p[0]) : p[0]);
  const ys = points.flatMap(p => [p[1] - (p[4] || 0), p[1] + (p[4] || 0)]);
  const [x0, x1] = range(xs, .03), [y0, y1] = range(ys, .06);
  const atX = v => left + ((log ? Math.log10(v) : v) - x0) / (x1 - x0) * (width - left - right);
  const atY = v => height - bottom - (v - y0) / (y1 - y0) * (height - top - bottom);
  const svg = make('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label});
  const whole = points.every(p => Number.isInteger(p[0]));
  for (const v of log ? ticks(10 ** x0, 10 ** x1, true) : ticks(x0, x1, false)) {
    if (whole && !Number.isInteger(v)) continue;
    svg.append(make('line', {class: 'axis', x1: atX(v), x2: atX(v), y1: top, y2: height - bottom}),
               make('text', {x: atX(v), y: height - bottom + 16, 'text-anchor': 'middle'},
                    v >= 1e4 ? count(v) : decimal(v)));
  }
  for (const v of ticks(y0, y1, false)) {
    svg.append(make('line', {class: 'axis', x1: left, x2: width - right, y1: atY(v), y2: atY(v)}),
               make('text', {x: left - 6, y: atY(v) + 4, 'text-anchor': 'end'}, v >= 1e4 ? count(v) : decimal(v)));
  }
  svg.append(make('text', {x: (left + width - right) / 2, y: height - 6, 'text-anchor': 'middle'}, x),
             make('text', {x: 14, y: height / 2, transform: `rotate(-90 14 ${height / 2})`,
                           'text-anchor': 'middle'}, y));
  series.forEach((s, i) => {
    const fill = s.colour || colour(i);
    if (s.line || s.joined) {
      // Epochs without an evaluation are passed over.
      const path = s.points.filter(p => p[1] !== null && (!log || p[0] > 0)).map((p, k) =>
        `${k ? 'L' : 'M'}${atX(p[0]).toFixed(1)} ${atY(p[1]).toFixed(1)}`).join('');
      svg.append(make('path', {d: path, fill: 'none', stroke: fill, 'stroke-width': s.joined ? 1.2 : 2,
                               'stroke-dasharray': s.dash ? '5 4' : s.joined ? dashes[cycle(i)] : null}));
      if (s.line) return;
    }
    for (const p of s.points) {
      if (p[1] === null || (log && !(p[0] > 0))) continue;
      const act = p[3];
      const onKey = e => {
        if (e.key !== 'Enter' && e.key !== ' ') return;
        e.preventDefault();
        act();
      };
      if (p[4]) {
        svg.append(make('line', {x1: atX(p[0]), x2: atX(p[0]), y1: atY(p[1] - p[4]), y2: atY(p[1] + p[4]),
                                 stroke: fill, 'stroke-width': 1.2}));
      }
      svg.append(make('path', {class: 'mark', d: shapes[cycle(i)],
                               transform: `translate(${atX(p[0]).toFixed(1)} ${atY(p[1]).toFixed(1)})`,
                               fill: s.hollow ? 'none' : fill, stroke: fill, 'stroke-width': 1,
                               tabindex: act ? 0 : null, role: act ? 'button' : null,
                               'aria-label': act ? p[2] : null, onclick: act, onkeydown: act ? onKey : null},
                      make('title', {}, p[2])));
    }
  });
  return svg;
}

function legend(series) {
  if (series.length < 2) return '';
  return make('ul', {class: 'legend'}, ...series.map((s, i) =>
    make('li', {}, make('svg', {class: 'swatch', viewBox: '-7 -7 14 14', 'aria-hidden': 'true'},
      make('path', {d: s.line ? 'M-7 -2h14v4h-14z' : shapes[cycle(i)], fill: s.hollow ? 'none' : s.colour || colour(i),
                    stroke: s.colour || colour(i)})), s.name)));
}

// ---- Tables ----

// columns: [{title, of: row -> value, show: row -> text or element, number}]
function table(caption, all, rows) {
  const empty = v => v === null || v === undefined || v === '';
  const columns = all.filter((c, i) => i === 0 || rows.some(r => !empty(c.of(r))));
  const body = make('tbody');
  let by = -1, up = false;
  const fill = () => {
    const order = rows.slice();
    if (by >= 0) {
      const of = columns[by].of;
      order.sort((a, b) => {
        const x = of(a), y = of(b);
        if (empty(x) || empty(y)) return empty(x) - empty(y);
        const c = typeof x === 'number' && typeof y === 'number'
          ? x - y : String(x).localeCompare(String(y), 'en', {numeric: true});
        return up ? c : -c;
      });
    }
    body.replaceChildren(...order.map(r => make('tr', {}, ...columns.map((c, i) => {
      const cell = c.show ? c.show(r) : c.of(r);
      const attributes = {class: c.number ? 'number' : null, scope: i === 0 ? 'row' : null};
      return make(i === 0 ? 'th' : 'td', attributes, cell ?? '');
    }))));
  };
  const heads = columns.map((c, i) => make('th', {scope: 'col', class: c.number ? 'number' : null},
    make('button', {type: 'button', onclick: () => {
      up = by === i ? !up : !c.number;
      by = i;
      heads.forEach((h, k) => k === by ? h.setAttribute('aria-sort', up ? 'ascending' : 'descending')
                                       : h.removeAttribute('aria-sort'));
      fill();
    }}, c.title)));
  fill();
  return make('div', {class: 'scroll'},
    make('table', {}, make('caption', {}, caption), make('thead', {}, make('tr', {}, ...heads)), body));
}

function expectText(g, of) {
  return make('span', {}, ...g.expect.flatMap((e, i) => [i ? make('br') : null, of(e)]));
}

function groupTable(groups) {
  const missed = g => g.expect.filter(e => !e.met).length;
  return table('Means over the seeds ± standard deviation; a name shows the run.', [
    {title: 'run', of: g => g.group,
     show: g => make('button', {type: 'button', onclick: () => showRun(g.runs[0])}, g.group)},
    {title: 'seeds', of: g => g.seeds.join(' '), show: g => make('span', {}, ...g.runs.flatMap((id, i) => [i ? ' ' : '',
      make('button', {type: 'button', onclick: () => showRun(id), 'aria-label': `${g.group}, seed ${g.seeds[i]}`},
           String(g.seeds[i]))]))},
    {title: 'scale', of: g => g.scale},
    {title: 'status', of: g => g.status},
    {title: 'test', number: true, of: g => g.test && g.test.mean, show: g => spread(g.test, v => withUnit(v, g.unit))},
    {title: 'params', number: true, of: g => g.params && g.params.mean, show: g => spread(g.params, count)},
    {title: 'MACs', number: true, of: g => g.macs && g.macs.mean, show: g => spread(g.macs, count)},
    {title: 'train cost', number: true, of: g => g.train_cost && g.train_cost.mean,
     show: g => spread(g.train_cost, v => decimal(v, 3))},
    {title: 'printed', of: g => g.expect.length ? g.expect[0].value : '',
     show: g => expectText(g, e => `${e.metric} ${decimal(e.value)} ± ${decimal(e.within)}`)},
    {title: 'difference', number: true,
     of: g => g.expect.length && g.expect[0].found ? g.expect[0].found.mean - g.expect[0].value : null,
     show: g => expectText(g, e => e.found ? decimal(e.found.mean - e.value, 3) : 'not there')},
    {title: 'met', of: g => g.expect.length ? g.expect.length - missed(g) : '',
     show: g => g.expect.length
       ? make('span', {class: missed(g) ? 'missed' : 'met'},
              missed(g) ? `${g.expect.length - missed(g)} of ${g.expect.length}` : 'yes')
       : ''},
    {title: 'time', number: true, of: g => g.seconds && g.seconds.mean,
     show: g => g.seconds ? duration(g.seconds.mean) : ''},
  ], groups);
}

const quotedPoints = q =>
  q.rows.flatMap(r => (Array.isArray(r.points) ? r.points : [r.points]).map(p => ({name: r.name, point: p})));

function quotedTable(q) {
  const points = quotedPoints(q);
  const keys = [...new Set(points.flatMap(p => p.point && typeof p.point === 'object' ? Object.keys(p.point) : []))];
  const cell = v => v === null || v === undefined ? '' : typeof v === 'object' ? JSON.stringify(v) : v;
  const columns = [{title: 'quoted', of: p => p.name}];
  if (keys.length === 0) columns.push({title: 'value', of: p => cell(p.point)});
  for (const k of keys) columns.push({title: k, number: true, of: p => cell(p.point[k])});
  const t = table(`Printed, not run: ${q.source}`, columns, points);
  t.classList.add('quoted');
  return t;
}

// The runs of a table beside the points that its paper prints; quoted sizes are in millions.
function sectionChart(groups, quoted) {
  const metric = (groups.find(g => g.metric && g.test) || {}).metric;
  if (!metric) return '';
  const ours = groups.filter(g => g.metric === metric && g.test);
  const printed = quoted.flatMap(quotedPoints).filter(p => p.point && typeof p.point[metric] === 'number');
  const key = ['macs', 'params'].find(k => new Set(ours.map(g => g[k] && g[k].mean)).size > 1 ||
                                           printed.some(p => typeof p.point[k] === 'number'));
  if (!key || ours.length + printed.length < 2) return '';
  const million = 1e6;
  const series = [
    {name: 'runs', points: ours.filter(g => g[key]).map(g => [g[key].mean, g.test.mean,
      `${g.group}: ${withUnit(g.test.mean, g.unit)}, ${count(g[key].mean)}`, () => showRun(g.runs[0])])},
    {name: 'printed', hollow: true, colour: 'var(--c7)',
     points: printed.filter(p => typeof p.point[key] === 'number').map(p => [
       p.point[key] * million, p.point[metric],
       `${p.name}: ${p.point[metric]}, ${count(p.point[key] * million)}`])},
  ].filter(s => s.points.length);
  const x = key === 'macs' ? 'multiply-accumulates' : 'parameters';
  const label = `${metric} across ${x}: the tables hold the numbers`;
  return make('figure', {}, chart(series, {x, y: metric, log: true, height: 280, label}), legend(series));
}

// ---- One run ----

function curves(r) {
  const of = (keys, y) => {
    const series = keys.filter(k => r.epochs[k]).map(k => (
      {name: k.replaceAll('_', ' '), line: true, points: r.epochs[k].map((v, i) => [i + 1, v ?? null])}));
    if (series.length === 0) return null;
    return make('figure', {},
      chart(series, {x: 'epoch', y, width: 440, height: 260, label: `${y} over the epochs`}), legend(series));
  };
  const has = Object.keys(r.epochs);
  const metric = r.metric || (has.find(k => k.startsWith('test_') && k !== 'test_loss') || '').slice(5);
  const learned = ['test', 'validation', 'train', 'ema_test'].map(part => `${part}_${metric}`);
  const losses = ['loss', 'test_loss', 'validation_loss', 'ema_test_loss'];
  const others = has.filter(k => ![...learned, ...losses, 'params', 'macs', 'stage'].includes(k));
  return make('div', {class: 'charts'},
    of(learned, metric + (r.unit ? `, ${r.unit}` : '')), of(losses, 'loss'),
    of(['params'], 'parameters'), of(['macs'], 'multiply-accumulates'),
    ...others.map(k => of([k], k.replaceAll('_', ' '))));
}

function showRun(id) {
  const r = runs.get(id);
  const detail = byId('detail');
  const line = (what, value) => value || value === 0 ? [make('dt', {}, what), make('dd', {}, value)] : [];
  detail.hidden = false;
  detail.replaceChildren(
    make('h2', {tabindex: -1}, `${r.name}${r.label ? '/' + r.label : ''}, seed ${r.seed}`),
    r.description ? make('p', {}, r.description) : '',
    r.error ? make('p', {class: 'missed'}, r.error) : '',
    make('dl', {}, ...line('status', r.status), ...line('test', withUnit(r.test, r.unit)),
      ...line('parameters', r.base_params ? `${count(r.base_params)} → ${count(r.params)}` : ''),
      ...line('multiply-accumulates', r.base_macs ? `${count(r.base_macs)} → ${count(r.macs)}` : ''),
      ...line('train cost', decimal(r.train_cost, 3)), ...line('time', duration(r.seconds)),
      ...line('processor', r.machine), ...line('folder', r.folder)),
    make('h3', {}, 'To make it again'), make('pre', {}, make('code', {}, r.command)),
    curves(r),
    make('h3', {}, r.edits.length ? `Edits of the structure: ${r.edits.length}` : 'No edits of the structure'),
    make('ol', {class: 'timeline'}, ...r.edits.map(e => make('li', {},
      make('span', {class: 'where'}, `${e.stage}, epoch ${e.epoch}, step ${e.step}: `), e.text,
      make('br'), `${count(e.params[0])} → ${count(e.params[1])} params, `,
      `${count(e.macs[0])} → ${count(e.macs[1])} MACs`,
      e.difference === null ? '' : `; the outputs changed by ${decimal(e.difference, 2)}`))));
  detail.firstChild.focus();
  detail.scrollIntoView();
}

// ---- The whole ----

function matching() {
  const text = byId('text').value.trim().toLowerCase(), scale = byId('scale').value, met = byId('met').value;
  return data.groups.filter(g => {
    if (scale !== '*' && g.scale !== scale) return false;
    const missed = g.expect.some(e => !e.met);
    if (met === 'met' && (g.expect.length === 0 || missed)) return false;
    if (met === 'missed' && !missed) return false;
    if (met === 'none' && g.expect.length > 0) return false;
    const said = [g.group, g.status, g.paper, g.section, g.description || ''].join(' ').toLowerCase();
    return said.includes(text);
  });
}

function drawFront(groups) {
  const key = byId('front-x').value, log = byId('front-log').checked;
  const named = byId('front-x').selectedOptions[0].textContent;
  const metric = (groups.find(g => g.metric) || {}).metric;
  const by = byId('front-by').value;
  const scales = new Set(groups.map(g => g.scale)).size;
  const nameOf = g => {
    if (by === 'recipe') return g.recipe + (scales > 1 ? `, ${g.scale || 'as it stands'}` : '');
    return /^\d{3}$/.test(g.paper) ? 'paper ' + g.paper : g.paper;
  };
  const drawn = groups.filter(g => g.metric === metric && g.test && g[key]);
  // The points of a recipe are one method at several sizes, so a line joins them.
  const series = [...new Set(drawn.map(nameOf))].map(name => ({
    name, joined: by === 'recipe',
    points: drawn.filter(g => nameOf(g) === name).sort((a, b) => a[key].mean - b[key].mean).map(g => [
      g[key].mean, g.test.mean,
      `${g.group}: ${spread(g.test, v => withUnit(v, g.unit))}, ${count(g[key].mean)} ${named}`,
      () => showRun(g.runs[0]), by === 'recipe' ? g.test.deviation : null]),
  }));
  const label = `${metric} across ${named}: the tables hold the numbers`;
  byId('front-chart').replaceChildren(
    chart(series, {x: named, y: metric || '', log, label, height: series.length > colours ? 520 : 340}),
    legend(series));
}

// What was drawn of runs: an image, so that nothing in it can meet what is in the page.
function picture(p) {
  const bytes = new TextEncoder().encode(p.svg);
  let text = '';
  for (const b of bytes) text += String.fromCharCode(b);
  const alt = `${titleOf(p.paper, p.section)}: ${p.name}`;
  return make('figure', {class: 'picture'}, make('img', {src: 'data:image/svg+xml;base64,' + btoa(text), alt}),
    make('figcaption', {}, alt));
}

function draw() {
  const groups = matching();
  byId('shown').textContent = `${groups.length} of ${data.groups.length} shown`;
  drawFront(groups);
  const sections = [];
  const everything = groups.length === data.groups.length;  // of which pictures without runs are a part, too
  const pictures = data.pictures || [];
  const keys = [...new Set([...groups, ...everything ? pictures : []].map(g => JSON.stringify([g.paper, g.section])))]
    .sort().map(k => JSON.parse(k));
  for (const [paper, section] of keys) {
    const id = anchor(paper, section);
    const here = groups.filter(g => g.paper === paper && g.section === section);
    const quoted = data.quoted.filter(q => q.paper === paper && q.section === section);
    const named = here.find(g => g.description);
    sections.push(make('section', {'aria-labelledby': id},
      make('h2', {id}, titleOf(paper, section)),
      named && here.length === 1 ? make('p', {}, named.description) : '',
      here.length ? groupTable(here) : '', ...quoted.map(quotedTable), sectionChart(here, quoted),
      ...pictures.filter(p => p.paper === paper && p.section === section).map(picture)));
  }
  byId('sections').replaceChildren(...sections);
  byId('places').replaceChildren(make('ul', {}, ...keys.map(([p, s]) =>
    make('li', {}, make('a', {href: '#' + anchor(p, s)}, titleOf(p, s))))));
}

function begin() {
  const scales = [...new Set(data.groups.map(g => g.scale))].sort();
  byId('scale').append(make('option', {value: '*'}, 'all'),
    ...scales.map(s => make('option', {value: s}, s || 'as it stands')));
  const expected = data.groups.flatMap(g => g.expect), met = expected.filter(e => e.met).length;
  byId('summary').textContent = `${data.runs.length} runs, made into this page on ${data.made}. ` +
    (expected.length ? `${met} of ${expected.length} printed numbers are met.` : 'Nothing is expected of these runs.');
  byId('filters').addEventListener('submit', e => e.preventDefault());
  byId('text').addEventListener('input', draw);
  // Recipes of one folder are a comparison.
  if (new Set(data.groups.map(g => g.paper)).size === 1) {
    byId('front-by').value = 'recipe';
    byId('front-x').value = data.groups.every(g => g.section === '') ? 'macs' : 'params';
  }
  for (const id of ['scale', 'met', 'front-x', 'front-by', 'front-log']) byId(id).addEventListener('change', draw);
  draw();
}
begin();
