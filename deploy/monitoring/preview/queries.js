// Asks Prometheus for the queries of a panel and makes Grafana's data frames of the answers.
import { FieldType, getDisplayProcessor, toDataFrame } from '@grafana/data';

const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };
// The story of the tests has a sample every 4 minutes.
const SHORTEST_RATE_SECONDS = 720;

export function seconds(text) {
  const [, number, unit] = /^(\d+)([smhdw])$/.exec(text);
  return Number(number) * UNITS[unit];
}

export function rangeOf(dashboard) {
  const to = Math.floor(Date.now() / 1000);
  return { from: to - seconds(dashboard.time.from.replace('now-', '')), to };
}

function expressionOf(target, range, step) {
  return target.expr
    .replaceAll('$job', '.+')
    .replaceAll('$instance', '.+')
    .replaceAll('$__rate_interval', `${Math.max(step * 1.2, SHORTEST_RATE_SECONDS)}s`)
    .replaceAll('$__range', `${range.to - range.from}s`);
}

async function ask(path, params) {
  const answer = await fetch(`/api/v1/${path}?${new URLSearchParams(params)}`);
  const body = await answer.json();
  if (body.status !== 'success') {
    throw new Error(body.error);
  }
  return body.data.result;
}

function legendOf(target, labels) {
  if (target.legendFormat === '__auto') {
    return Object.values(labels).join(' ') || 'value';
  }
  return target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? '');
}

async function frames(target, range, step) {
  if (target.instant) {
    const found = await ask('query', { query: expressionOf(target, range, step), time: range.to });
    if (target.format === 'table') {
      return [tableFrame(found)];
    }
    return found.map(({ metric, value }) =>
      seriesFrame(legendOf(target, metric), [[value[0], value[1]]])
    );
  }
  // Grafana aligns the range to the step.
  const start = Math.floor(range.from / step) * step;
  const found = await ask('query_range', {
    query: expressionOf(target, range, step),
    start,
    end: step >= 86400 ? Math.floor(range.to / step) * step : range.to,
    step,
  });
  return found.map(({ metric, values }) => {
    const at = new Map(values.map(([time, value]) => [time, value]));
    const filled = [];
    for (let time = start; time <= range.to; time += step) {
      filled.push([time, at.get(time) ?? null]);
    }
    return seriesFrame(legendOf(target, metric), filled);
  });
}

function seriesFrame(name, values) {
  return toDataFrame({
    name,
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map(([time]) => time * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        config: { displayNameFromDS: name },
        values: values.map(([, value]) => (value === null ? null : Number(value))),
      },
    ],
  });
}

function tableFrame(found) {
  const labels = [...new Set(found.flatMap(({ metric }) => Object.keys(metric)))];
  return toDataFrame({
    fields: [
      ...labels.map((label) => ({
        name: label,
        type: FieldType.string,
        values: found.map(({ metric }) => metric[label] ?? ''),
      })),
      { name: 'Value', type: FieldType.number, values: found.map(({ value }) => Number(value[1])) },
    ],
  });
}

// The transformation `organize`, the only one that the dashboards use.
function organized(frame, panel) {
  const { excludeByName, indexByName, renameByName } = panel.transformations[0].options;
  const kept = frame.fields.filter(({ name }) => !excludeByName[name]);
  kept.sort((one, other) => (indexByName[one.name] ?? 99) - (indexByName[other.name] ?? 99));
  return toDataFrame({
    fields: kept.map((field) => ({ ...field, name: renameByName[field.name] ?? field.name })),
  });
}

function configured(field, name, panel, seriesIndex, theme) {
  const { defaults, overrides } = panel.fieldConfig;
  const config = structuredClone({ ...defaults, ...field.config });
  for (const { matcher, properties } of overrides) {
    if (matcher.options === name) {
      for (const { id, value } of properties) {
        if (id.startsWith('custom.')) {
          config.custom = { ...config.custom, [id.slice('custom.'.length)]: value };
        } else if (id !== 'links') {
          config[id] = value;
        }
      }
    }
  }
  const numbers = field.values.filter((value) => typeof value === 'number');
  const max = config.max ?? (numbers.length ? Math.max(...numbers) : 0);
  const state = { displayName: name, seriesIndex, range: { min: 0, max, delta: max } };
  const done = { ...field, config, state };
  done.display = getDisplayProcessor({ field: done, theme, timeZone: 'utc' });
  return done;
}

export async function dataOf(panel, range, width, theme) {
  const finest = Math.max(60, Math.ceil((range.to - range.from) / Math.max(width, 100) / 60) * 60);
  const step = Math.max(finest, panel.interval ? seconds(panel.interval) : 0, 240);
  const answers = await Promise.all(panel.targets.map((one) => frames(one, range, step)));
  let found = answers.flat();
  if (panel.type === 'table') {
    found = found.map((frame) => organized(frame, panel));
  }
  return found.map((frame, index) => ({
    ...frame,
    fields: frame.fields.map((field) => {
      if (field.type === FieldType.time) {
        return field;
      }
      const name = panel.type === 'table' ? field.name : field.config.displayNameFromDS;
      return configured(field, name, panel, index, theme);
    }),
  }));
}
