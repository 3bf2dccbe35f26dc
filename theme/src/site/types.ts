/** A node of a page's tree, as mystmd writes it. */
export interface Node {
  type: string;
  children?: Node[];
  key?: string;
  value?: string;
  identifier?: string;
  html_id?: string;
  enumerator?: string;
  // Each kind of node has fields of its own; the renderers read the ones they know.
  [field: string]: any;
}

interface Frontmatter {
  title?: string;
  description?: string;
  thumbnail?: string;
  numbering?: { enumerator?: { enumerator?: string } };
}

export interface Citation {
  label: string;
  enumerator: string;
  html: string;
}

/** What the content server answers for one page. */
export interface Page {
  slug: string;
  location: string;
  frontmatter: Frontmatter;
  mdast: Node;
  references?: { cite?: { order: string[]; data: Record<string, Citation> } };
}

/** A line of the table of contents: a part (no slug) or a page. */
export interface TocEntry {
  title: string;
  level: number;
  slug?: string;
  /** The chapter's number, read from its numbering prefix. */
  number?: string;
  description?: string;
  /** Address of the picture that stands for it. */
  thumbnail?: string;
}

/** Something that can be referred to from another page. */
export interface Target {
  href: string;
  slug: string;
  label: string;
  /** The words of a box's own title; for anything else its label. */
  title: string;
  number?: string;
}
