import type { ReactNode } from 'react';

interface Group {
  title: ReactNode;
  /** The first cell of a row names it. */
  rows: { id: string; cells: ReactNode[] }[];
}

interface GroupedTableProps {
  caption: string;
  /** What each column is called, and how wide it is; without a width it takes the rest. */
  columns: [head: string, width?: string][];
  groups: Group[];
}

/** A table of many columns whose rows come in groups. Where there is no room its cells
 * stand below one another: the roles keep it a table, and each cell bears its head. */
export function GroupedTable({ caption, columns, groups }: GroupedTableProps) {
  return (
    <table className="ledger" role="table">
      <caption className="sr-only">{caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map(([head, width]) => (
            <th scope="col" role="columnheader" style={{ width }} key={head}>
              {head}
            </th>
          ))}
        </tr>
      </thead>
      {groups.map(({ title, rows }, i) => (
        <tbody role="rowgroup" key={i}>
          <tr role="row" className="group">
            <th scope="rowgroup" role="rowheader" colSpan={columns.length}>
              {title}
            </th>
          </tr>
          {rows.map(({ id, cells: [name, ...others] }) => (
            <tr id={id} role="row" key={id}>
              <th scope="row" role="rowheader">
                {name}
              </th>
              {others.map((cell, k) => (
                <td role="cell" data-head={columns[k + 1][0]} key={k}>
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      ))}
    </table>
  );
}
