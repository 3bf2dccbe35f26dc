import type { ReactNode } from 'react';
import type { Site } from '../site/site';
import type { Node } from '../site/types';
import { usePage } from '../site/context';
import { CLOUD, CloudFigure } from '../live/cloud';
import { LIVE, LiveFigure } from '../live/live';
import { Model, ONNX } from '../model/model';
import { Fold } from './fold';

const WIDGET = 'application/vnd.jupyter.widget-view+json';
const IMAGES = ['image/svg+xml', 'image/png'];
/** The same figure, laid out for a narrow page. */
const PHONE = 'application/vnd.ddpm-lit.phone+xml';

/** Something that a cell put out in one form; what is long lies in a file. */
interface MimeItem {
  content?: string;
  path?: string;
}
type Bundle = Record<string, MimeItem | undefined>;

const read = (site: Site, { content = '', path }: MimeItem = {}): string =>
  path ? site.bytes(path)!.toString() : content;

/** Figures that a page brings to life, each with a still to begin with. */
const PLAYED = [
  [LIVE, LiveFigure],
  [CLOUD, CloudFigure],
  [ONNX, Model],
] as const;

/** A part of a drawing: the name of its code, then left, top, width, height in percent. */
type Lead = [string, number, number, number, number];

/** A part of a drawing leads to the code that it stands for: for the Tab key, the first. */
function Way({ lead: [name, left, top, width, height], tabIndex }: { lead: Lead; tabIndex?: -1 }) {
  const { site, page } = usePage();
  const code = site.identifiers.unambiguous.get(name);
  if (!code) return site.complain(page, `has a drawing of ${name}, which nothing defines`), null;
  const place = Object.entries({ left, top, width, height }).map(([side, n]) => [side, `${n}%`]);
  const href = `${site.href(code.slug)}#${code.id}`;
  const style = Object.fromEntries(place);
  return <a className="way" href={href} aria-label={name} tabIndex={tabIndex} style={style} />;
}

interface PictureProps {
  bundle: Bundle;
  mime: string;
  alt: string;
  leads: Lead[];
  isLive: boolean;
}

function Picture({ bundle, mime, alt, leads, isLive }: PictureProps) {
  const { site } = usePage();
  // Each SVG is a file of its own: the ids inside never clash with another's.
  const item = bundle[mime]!;
  const image = item.path
    ? site.publish(item.path)
    : site.publishContent(item.content ?? '', mime === IMAGES[0] ? '.svg' : '');
  const img = <img {...image} alt={alt} loading="lazy" />;
  if (isLive) return img;
  const phone = bundle[PHONE];
  if (!phone) {
    const isFirst = (lead: Lead) => lead === leads.find(([name]) => name === lead[0]);
    const ways = leads.map((lead) => (
      <Way lead={lead} tabIndex={isFirst(lead) ? undefined : -1} key={String(lead)} />
    ));
    return <div className="drawing"><Enlarge {...image}>{img}</Enlarge>{ways}</div>;
  }
  const drawn = phone.path ? site.bytes(phone.path)! : phone.content ?? '';
  const { src, ...size } = site.publishContent(drawn, '.svg');
  return (
    <Enlarge {...image}>
      <picture>
        <source media="screen and (max-width: 40rem)" srcSet={src} {...size} />
        {img}
      </picture>
    </Enlarge>
  );
}

/** Pixels from which a picture takes the whole measure: the others are small on purpose. */
const FULL = 540;

interface EnlargeProps {
  src: string;
  width?: number;
  children: ReactNode;
}

/** A still picture is also a link to itself, where a reader can make it larger. */
export function Enlarge({ src, width = 0, children }: EnlargeProps) {
  return (
    <a className={width < FULL ? 'enlarge' : 'enlarge full'} href={src} title="Enlarge">
      {children}
    </a>
  );
}

/** A picture, or what begins with one and can be moved. */
function Still({ bundle, alt, leads = [] }: { bundle: Bundle; alt: string; leads?: Lead[] }) {
  const { site } = usePage();
  const mime = IMAGES.find((each) => bundle[each])!;
  const [kind, Played] = PLAYED.find(([each]) => bundle[each]) ?? [];
  const picture = <Picture {...{ bundle, mime, alt, leads }} isLive={Boolean(Played)} />;
  return Played ? <Played json={read(site, bundle[kind!])} still={picture} /> : picture;
}

/** Has this cell shown a figure that lives on a page? It brings a still along. */
export const isLive = (outputs: Node): boolean =>
  outputs.children!.some(({ jupyter_data: data }) => PLAYED.some(([mime]) => data?.data?.[mime]));

/** A picture with its words, or a text. */
interface Piece {
  bundle?: Bundle;
  alt?: string;
  leads?: Lead[];
  text: string;
  isPrinted: boolean;
}

/** What a cell has shown. A widget without a still leaves nothing to see; prints that
 * follow one another were one text in the notebook. */
function pieces({ site, page }: ReturnType<typeof usePage>, node: Node): Piece[] {
  const found: Piece[] = [];
  for (const { jupyter_data: data } of node.children ?? []) {
    if (!data) continue;
    const bundle: Bundle = data.data ?? {};
    const mime = IMAGES.find((each) => bundle[each]);
    const isPrinted = data.output_type === 'stream';
    const { text: content, path } = data;
    const text = read(site, isPrinted ? { content, path } : bundle['text/plain']);
    const last = found.at(-1);
    if (mime) found.push({ bundle, ...data.metadata?.[mime], text: '', isPrinted });
    else if (isPrinted && last?.isPrinted) last.text += text;
    else if (text) found.push({ text, isPrinted });
    else if (!isPrinted && !bundle[WIDGET]) {
      site.complain(page, `shows what a page cannot: ${Object.keys(bundle)}`);
    }
  }
  return found;
}

/** Text of more lines than this is a table that few look up. */
const LONG = 12;

/** A long text has a fold of its own; one line is shorter than the line of a fold. */
function Words({ text, isFolded }: { text: string; isFolded: boolean }) {
  const lines = text.trim().split('\n').length;
  const words = (
    <pre className="output-text" tabIndex={0} role="group" aria-label="output">
      {text.replace(/\n$/, '')}
    </pre>
  );
  if (isFolded || lines < 3) return words;
  const depth = lines > LONG ? 'everything' : 'core';
  return (
    <Fold kind="fold output" depth={depth} summary={`Output, ${lines} lines`}>
      {words}
    </Fold>
  );
}

/** Of what a cell showed, only the pictures, or only the words. */
export type Shown = 'pictures' | 'words';

interface OutputsProps {
  node: Node;
  alt?: string;
  only?: Shown;
  isFolded?: boolean;
}

/** Everything a cell showed when it ran; nothing when there is nothing to show. */
export function Outputs({ node, alt, only, isFolded = false }: OutputsProps) {
  const shown = pieces(usePage(), node).filter(({ bundle }) => !only || !bundle === (only === 'words'));
  if (!shown.length) return null;
  return (
    <div className="outputs" id={only === 'words' ? undefined : node.html_id}>
      {shown.map(({ bundle, alt: stated = '', leads, text }, i) =>
        bundle ? (
          <Still {...{ bundle, leads }} alt={alt ?? stated} key={i} />
        ) : (
          <Words text={text} isFolded={isFolded || Boolean(only)} key={i} />
        ),
      )}
    </div>
  );
}
