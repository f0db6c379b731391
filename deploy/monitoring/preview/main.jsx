// Draws one dashboard of ../dashboards, named by ?dashboard=, with Grafana's panel components.
import { createTheme, dateTime, ThemeContext } from '@grafana/data';
import { BarGauge, BigValue, PanelChrome, Table, TimeSeries } from '@grafana/ui';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';

import { dataOf, rangeOf } from './queries.js';

const FILES = import.meta.glob('../dashboards/*.json', { eager: true, import: 'default' });
const CELL = 30;
const GAP = 8;
const WIDTH = 1200;
const COLUMNS = 24;
const theme = createTheme({ colors: { mode: 'dark' } });

const chosen = new URLSearchParams(location.search).get('dashboard') ?? 'overview';
const dashboard = FILES[`../dashboards/${chosen}.json`];
const range = rangeOf(dashboard);
const timeRange = {
  from: dateTime(range.from * 1000),
  to: dateTime(range.to * 1000),
  raw: { from: dashboard.time.from, to: 'now' },
};

function lastOf(field) {
  return field.values.filter((value) => value !== null).at(-1) ?? null;
}

function valueField(frame) {
  return frame.fields.find((field) => field.type === 'number');
}

function Stat({ panel, frames, width, height }) {
  const { colorMode, graphMode, textMode } = panel.options;
  const across = width > height * 1.4 || frames.length === 1;
  const share = (across ? width : height) / frames.length - 4;
  return (
    <div style={{ display: 'flex', flexDirection: across ? 'row' : 'column', gap: 4 }}>
      {frames.map((frame, index) => {
        const field = valueField(frame);
        const value = field.display(lastOf(field));
        return (
          <BigValue
            key={index}
            theme={theme}
            width={across ? share : width}
            height={across ? height : share}
            colorMode={colorMode}
            graphMode={graphMode}
            textMode={textMode !== 'auto' ? textMode : frames.length > 1 ? 'value_and_name' : 'value'}
            value={{ ...value, title: field.state.displayName }}
            sparkline={
              graphMode === 'area' && field.values.length > 1
                ? { x: frame.fields[0], y: field }
                : undefined
            }
          />
        );
      })}
    </div>
  );
}

function Bars({ panel, frames, width, height }) {
  const fields = frames.map(valueField);
  const max = panel.fieldConfig.defaults.max ?? Math.max(...fields.map(lastOf));
  const each = Math.min(40, height / Math.max(frames.length, 1) - 4);
  return fields.map((field, index) => (
    <div key={index} style={{ marginBottom: 4 }}>
      <BarGauge
        theme={theme}
        width={width}
        height={each}
        orientation="horizontal"
        displayMode={panel.options.displayMode}
        valueDisplayMode="color"
        showUnfilled
        field={{ ...field.config, min: 0, max }}
        display={field.display}
        value={{ ...field.display(lastOf(field)), title: field.state.displayName }}
        alignmentFactors={{ title: longest(fields), text: '00000' }}
      />
    </div>
  ));
}

function longest(fields) {
  const names = fields.map((field) => field.state.displayName);
  return names.reduce((one, other) => (other.length > one.length ? other : one), '');
}

function Graph({ panel, frames, width, height }) {
  const { legend } = panel.options;
  const shown = { ...legend, asTable: legend.displayMode === 'table' };
  return (
    <TimeSeries
      frames={frames}
      timeRange={timeRange}
      timeZone="utc"
      width={width}
      height={height}
      legend={shown}
      options={{ legend: shown, tooltip: panel.options.tooltip }}
    />
  );
}

// Grafana's own is not part of its library of components.
function Timeline({ frames, width, height }) {
  const label = 110;
  const each = Math.min(34, height / Math.max(frames.length, 1));
  return frames.map((frame, index) => {
    const field = valueField(frame);
    const share = (width - label) / field.values.length;
    return (
      <div key={index} style={{ display: 'flex', height: each, alignItems: 'center' }}>
        <div style={{ width: label, fontSize: 12 }}>{field.state.displayName}</div>
        {field.values.map((value, place) => {
          const look = value === null ? null : field.display(value);
          return (
            <div
              key={place}
              title={look?.text}
              style={{ width: share, height: each - 8, background: look?.color ?? 'transparent' }}
            />
          );
        })}
      </div>
    );
  });
}

const KINDS = {
  stat: Stat,
  bargauge: Bars,
  timeseries: Graph,
  'state-timeline': Timeline,
  table: ({ frames, panel, width, height }) => (
    <Table data={frames[0]} width={width} height={height} initialSortBy={panel.options.sortBy} />
  ),
};

function Panel({ panel, width, height }) {
  const [frames, setFrames] = useState(null);
  const [error, setError] = useState('');
  useEffect(() => {
    dataOf(panel, range, width, theme).then(setFrames, (fault) => setError(String(fault)));
  }, []);
  const Kind = KINDS[panel.type];
  return (
    <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
      {(inner, tall) => {
        if (error || !frames?.length || !frames[0].length) {
          return <div data-empty={frames !== null}>{error || 'No data'}</div>;
        }
        return <Kind panel={panel} frames={frames} width={inner} height={tall} />;
      }}
    </PanelChrome>
  );
}

function placeOf({ x, y, w, h }) {
  const column = (WIDTH - GAP) / COLUMNS;
  return {
    left: GAP + x * column,
    top: y * (CELL + GAP),
    width: w * column - GAP,
    height: h * (CELL + GAP) - GAP,
  };
}

function Dashboard() {
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <div style={{ width: WIDTH, color: theme.colors.text.primary }}>
      <div style={{ padding: '12px 8px', fontSize: 18 }}>{dashboard.title}</div>
      <div style={{ position: 'relative', height: bottom * (CELL + GAP) + GAP }}>
        {dashboard.panels.map((panel) => {
          const place = placeOf(panel.gridPos);
          return (
            <div key={panel.id} style={{ position: 'absolute', ...place }}>
              {panel.type === 'row' ? (
                <div style={{ paddingTop: 6, fontSize: 15, fontWeight: 500 }}>{panel.title}</div>
              ) : (
                <Panel panel={panel} width={place.width} height={place.height} />
              )}
            </div>
          );
        })}
      </div>
    </div>
  );
}

createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <Dashboard />
  </ThemeContext.Provider>
);
