/**
 * A list: filter, sort, pages, and what to do when it is empty.
 *
 * Why here: every list of the console works the same way. A page of rows is in the document at a time, so a thousand
 * machines cost as much as fifty. Built of PatternFly's table, toolbar and pagination. Route in: rows, columns.
 */
import {
  Bullseye,
  Button,
  EmptyState,
  EmptyStateActions,
  EmptyStateBody,
  EmptyStateFooter,
  PageSection,
  Pagination,
  SearchInput,
  Spinner,
  Toolbar,
  ToolbarContent,
  ToolbarItem,
} from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { type ReactNode, useDeferredValue, useState } from "react";
import { matches, paged, sorted, type Sorting, type SortValue } from "./select.ts";

export interface Column<T> {
  title: string;
  /** What the column is sorted and filtered by; a column without it is neither. */
  value?: (row: T) => SortValue;
  cell: (row: T) => ReactNode;
}

interface Props<T> {
  /** What the rows are: `machines`. */
  label: string;
  rows: readonly T[];
  isWhole: boolean;
  columns: Column<T>[];
  rowKey: (row: T) => string;
  /** Acts of a row. */
  actions?: (row: T) => ReactNode;
  /** Further filters. */
  filters?: ReactNode;
  /** What is shown when nothing is there. */
  empty: { title: string; text: ReactNode; action?: ReactNode };
  /** Column that the list is sorted by at first. */
  sortedBy?: number;
}

const SIZES = [20, 50, 100].map((value) => ({ title: String(value), value }));

export function List<T>({ label, rows, isWhole, columns, rowKey, actions, filters, empty, sortedBy = 0 }: Props<T>) {
  const [filter, setFilter] = useState("");
  const [sorting, setSorting] = useState<Sorting>({ column: sortedBy, direction: "asc" });
  const [page, setPage] = useState(1);
  const [size, setSize] = useState(50);
  // What is typed is shown at once; the rows follow.
  const wanted = useDeferredValue(filter);
  if (rows.length === 0 && !isWhole) {
    return (
      <Bullseye>
        <Spinner aria-label={`Reading ${label}`} />
      </Bullseye>
    );
  }
  if (rows.length === 0 && !filters) {
    return (
      <PageSection>
        <EmptyState headingLevel="h2" titleText={empty.title}>
          <EmptyStateBody>{empty.text}</EmptyStateBody>
          {empty.action && (
            <EmptyStateFooter>
              <EmptyStateActions>{empty.action}</EmptyStateActions>
            </EmptyStateFooter>
          )}
        </EmptyState>
      </PageSection>
    );
  }
  const text = (row: T) => columns.map((column) => column.value?.(row) ?? "").join(" ");
  const found = wanted.trim() === "" ? rows : rows.filter((row) => matches(text(row), wanted.trim()));
  const by = columns[sorting.column]?.value;
  const ordered = by ? sorted(found, by, sorting.direction) : found;
  const shown = paged(ordered, page, size);
  const pagination = (isBottom: boolean) => (
    <Pagination
      itemCount={ordered.length}
      page={shown.page}
      perPage={size}
      perPageOptions={SIZES}
      onSetPage={(_event, next) => setPage(next)}
      onPerPageSelect={(_event, next) => setSize(next)}
      variant={isBottom ? "bottom" : "top"}
      isCompact
      widgetId={`${label}-${isBottom ? "bottom" : "top"}`}
      titles={{ paginationAriaLabel: `Pages of ${label}, ${isBottom ? "below" : "above"} the list` }}
    />
  );
  return (
    <PageSection>
      <Toolbar>
        <ToolbarContent>
          <ToolbarItem>
            <SearchInput
              aria-label={`Filter ${label}`}
              placeholder="Filter"
              value={filter}
              onChange={(_event, value) => {
                setFilter(value);
                setPage(1);
              }}
              onClear={() => setFilter("")}
            />
          </ToolbarItem>
          {filters}
          <ToolbarItem variant="pagination" align={{ default: "alignEnd" }}>
            {pagination(false)}
          </ToolbarItem>
        </ToolbarContent>
      </Toolbar>
      <Table aria-label={label} variant="compact">
        <Thead>
          <Tr>
            {columns.map((column, index) => (
              <Th
                key={column.title}
                modifier="nowrap"
                {...(column.value
                  ? {
                      sort: {
                        columnIndex: index,
                        sortBy: { index: sorting.column, direction: sorting.direction },
                        onSort: (_event: unknown, _index: number, direction: "asc" | "desc") =>
                          setSorting({ column: index, direction }),
                      },
                    }
                  : {})}
              >
                {column.title}
              </Th>
            ))}
            {actions && <Th screenReaderText="Actions" />}
          </Tr>
        </Thead>
        <Tbody>
          {shown.rows.map((row) => (
            <Tr key={rowKey(row)}>
              {columns.map((column) => (
                <Td key={column.title} dataLabel={column.title}>
                  {column.cell(row)}
                </Td>
              ))}
              {actions && <Td isActionCell>{actions(row)}</Td>}
            </Tr>
          ))}
        </Tbody>
      </Table>
      {shown.rows.length === 0 && (
        <EmptyState headingLevel="h2" titleText={filter === "" ? empty.title : `No ${label} match`}>
          <EmptyStateBody>{filter === "" ? empty.text : "Change the filter, or clear it to see all."}</EmptyStateBody>
          {filter !== "" && (
            <EmptyStateFooter>
              <Button variant="link" onClick={() => setFilter("")}>
                Clear the filter
              </Button>
            </EmptyStateFooter>
          )}
        </EmptyState>
      )}
      {ordered.length > size && pagination(true)}
    </PageSection>
  );
}
