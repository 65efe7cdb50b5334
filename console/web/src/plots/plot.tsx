/**
 * One plot: up to two lines over time, with the last value in words and all of them in a table.
 *
 * Why here: PatternFly's charts are nineteen packages of Victory, several times what the page weighs, for two lines and an axis. Colour
 * says nothing alone: the second line is dashed. Who does not see the picture reads the summary and the table.
 */
import { Button, Content, Flex, FlexItem } from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { type PointerEvent, useId, useState } from "react";
import {
  clock,
  largest,
  latest,
  type Measured,
  path,
  rows,
  timeOf,
  top,
  type Unit,
  type Values,
  written,
} from "./series.ts";

/** The field of the lines in the picture, in its own units; the rest is for labels. */
const [WIDTH, HEIGHT, LEFT, ABOVE] = [420, 120, 62, 8];

export interface Line {
  name: string;
  values: Values;
}

interface Props {
  title: string;
  unit: Unit;
  lines: Line[];
  measured: Measured;
  level: "h2" | "h3";
  /** How much there is at most, if that is known: the top of the scale. */
  limit?: number | undefined;
}

export function Plot({ title, unit, lines, measured, level, limit }: Props) {
  const id = useId();
  const [isTable, setTable] = useState(false);
  const [pointed, setPointed] = useState<number>();
  const lists = lines.map((line) => line.values);
  const length = lists[0]?.length ?? 0;
  const most = Math.max(limit ?? 0, top(largest(lists), unit));
  const words = lines.map(({ name, values }) => {
    const value = pointed === undefined ? latest(values) : values[pointed];
    return `${lines.length > 1 ? `${name} ` : ""}${written(value, unit)}`;
  });
  const when = pointed === undefined ? "" : ` at ${clock(timeOf(measured, length, pointed))}`;
  const whole = limit === undefined ? "" : ` of ${written(limit, unit)}`;
  const summary = lines
    .map(
      ({ name, values }) =>
        `${name}: last ${written(latest(values), unit)}, at most ${written(largest([values]), unit)}`,
    )
    .join("; ");
  const point = (event: PointerEvent<SVGSVGElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * (WIDTH + LEFT + 8) - LEFT;
    setPointed(x < 0 || x > WIDTH ? undefined : Math.round((x / WIDTH) * (length - 1)));
  };
  const marks = [0, 0.25, 0.5, 0.75, 1];
  return (
    <figure aria-labelledby={id} className="sheaf-plot">
      <Flex justifyContent={{ default: "justifyContentSpaceBetween" }}>
        <FlexItem>
          <Content component={level} id={id}>
            {title}
          </Content>
        </FlexItem>
        <FlexItem>
          {words.join(", ")}
          {whole}
          {when}
        </FlexItem>
      </Flex>
      <svg
        role="img"
        aria-label={`${title}. ${summary}.`}
        viewBox={`0 0 ${WIDTH + LEFT + 8} ${HEIGHT + ABOVE + 24}`}
        onPointerMove={point}
        onPointerLeave={() => setPointed(undefined)}
      >
        <g transform={`translate(${LEFT} ${ABOVE})`}>
          {[0, 0.5, 1].map((part) => (
            <g key={part}>
              <line className="sheaf-plot-grid" x2={WIDTH} y1={HEIGHT * (1 - part)} y2={HEIGHT * (1 - part)} />
              <text x={-6} y={HEIGHT * (1 - part) + 4} textAnchor="end">
                {written(most * part, unit)}
              </text>
            </g>
          ))}
          {marks.map((part) => (
            <text
              key={part}
              x={WIDTH * part}
              y={HEIGHT + 18}
              textAnchor={part === 0 ? "start" : part === 1 ? "end" : "middle"}
            >
              {clock(timeOf(measured, length, Math.round((length - 1) * part)))}
            </text>
          ))}
          {lines.map(({ name, values }, at) => (
            <path key={name} className={`sheaf-plot-line-${at}`} d={path(values, most, WIDTH, HEIGHT)} />
          ))}
          {pointed !== undefined && (
            <line
              className="sheaf-plot-grid"
              x1={(pointed / Math.max(length - 1, 1)) * WIDTH}
              x2={(pointed / Math.max(length - 1, 1)) * WIDTH}
              y2={HEIGHT}
            />
          )}
        </g>
      </svg>
      <Flex justifyContent={{ default: "justifyContentSpaceBetween" }}>
        <FlexItem>
          {lines.length > 1 &&
            lines.map(({ name }, at) => (
              <span key={name} className={`sheaf-plot-key-${at}`}>
                {name}{" "}
              </span>
            ))}
        </FlexItem>
        <FlexItem>
          <Button variant="link" isInline aria-expanded={isTable} onClick={() => setTable(!isTable)}>
            {isTable ? "Hide" : "Show"} values of {title}
          </Button>
        </FlexItem>
      </Flex>
      {isTable && (
        <Table aria-label={`Values of ${title}`} variant="compact">
          <Thead>
            <Tr>
              <Th>Until</Th>
              {lines.map(({ name }) => (
                <Th key={name}>{name}</Th>
              ))}
            </Tr>
          </Thead>
          <Tbody>
            {rows(measured, lists, unit).map(({ time, values }) => (
              <Tr key={time}>
                <Td dataLabel="Until">{time}</Td>
                {values.map((value, at) => (
                  <Td key={lines[at]?.name} dataLabel={lines[at]?.name ?? ""}>
                    {value}
                  </Td>
                ))}
              </Tr>
            ))}
          </Tbody>
        </Table>
      )}
    </figure>
  );
}
