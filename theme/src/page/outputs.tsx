import type { ReactNode } from 'react';
import { AnsiUp } from 'ansi_up';
import katex from 'katex';
import type { Node } from '../site/types';
import { usePage } from '../site/context';
import { CLOUD, CloudFigure } from '../live/cloud';
import { LIVE, LiveFigure } from '../live/live';
import { Model, ONNX } from '../model/model';
import type { Depth } from './depth';

const WIDGET = 'application/vnd.jupyter.widget-view+json';
const IMAGES = ['image/svg+xml', 'image/png', 'image/jpeg', 'image/gif'];
/** The same figure, laid out for a narrow page. */
const PHONE = 'application/vnd.ddpm-lit.phone+xml';
const RICH = [...IMAGES, 'text/html', 'text/latex'];

interface MimeItem {
  content?: string;
  path?: string;
}
type Bundle = Record<string, MimeItem | undefined>;

/** Figures that a page brings to life, each with a still to begin with. */
const PLAYED = [
  [LIVE, LiveFigure],
  [CLOUD, CloudFigure],
  [ONNX, Model],
] as const;

const ansi = new AnsiUp();
ansi.use_classes = true;

function Text({ text, kind }: { text: string; kind: string }) {
  const html = ansi.ansi_to_html(text.replace(/\n$/, ''));
  return (
    <pre
      className={`output-text ${kind}`}
      tabIndex={0}
      role="group"
      aria-label={kind === 'error' ? 'error' : 'output'}
      dangerouslySetInnerHTML={{ __html: html }}
    />
  );
}

/** `<Figure size 640x480 …>` and the like name an object, they describe nothing. */
const isRepr = (text: string) => /^(<.*>|\w+\(.*\))$/s.test(text.trim());

function alternative(data: any, bundle: Bundle, mime: string): string {
  const text = bundle['text/plain']?.content ?? '';
  const stated = data.metadata?.[mime]?.alt ?? data.metadata?.alt;
  return stated ?? (isRepr(text) ? '' : text);
}

interface PictureProps {
  bundle: Bundle;
  mime: string;
  alt: string;
  isLive: boolean;
}

function Picture({ bundle, mime, alt, isLive }: PictureProps) {
  const { site } = usePage();
  // Each SVG is a file of its own: the ids inside never clash with another's.
  const item = bundle[mime]!;
  const image = item.path
    ? site.publish(item.path)
    : site.publishContent(item.content ?? '', mime === IMAGES[0] ? '.svg' : '');
  const img = <img {...image} alt={alt} loading="lazy" />;
  if (isLive) return img;
  const phone = bundle[PHONE];
  if (!phone) return <Enlarge {...image}>{img}</Enlarge>;
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

function Mime({ data, alt }: { data: any; alt?: string }) {
  const { site } = usePage();
  const bundle: Bundle = data.data ?? {};
  const read = (mime: string): string | undefined => {
    const item = bundle[mime];
    return item?.path ? site.bytes(item.path)?.toString() : item?.content;
  };
  const isWidget = bundle[WIDGET] !== undefined;
  const image = IMAGES.find((mime) => bundle[mime]);
  if (image) {
    const text = alt ?? alternative(data, bundle, image);
    const [Played, json] = PLAYED.map(([mime, each]) => [each, read(mime)] as const)
      .find(([, found]) => found) ?? [];
    const about = { bundle, mime: image, alt: text, isLive: Played !== undefined };
    const picture = <Picture {...about} />;
    return Played && json ? <Played json={json} still={picture} /> : picture;
  }
  if (isWidget) return null;
  const html = read('text/html');
  if (html !== undefined) {
    return <div className="output-html" dangerouslySetInnerHTML={{ __html: html }} />;
  }
  const latex = read('text/latex');
  if (latex !== undefined) {
    const tex = latex.trim().replace(/^\$+(\\displaystyle)?|\$+$/g, '');
    const rendered = katex.renderToString(tex, { displayMode: true });
    return <div className="output-math" dangerouslySetInnerHTML={{ __html: rendered }} />;
  }
  const text = read('text/markdown') ?? read('text/plain');
  return text === undefined ? null : <Text text={text} kind="result" />;
}

function Output({ data, alt }: { data: any; alt?: string }) {
  const { site } = usePage();
  const whole = data.path ? site.bytes(data.path)?.toString() : undefined;
  if (data.output_type === 'stream') {
    return <Text text={whole ?? data.text ?? ''} kind={data.name} />;
  }
  if (data.output_type === 'error') {
    const trace = whole ?? data.traceback ?? `${data.ename}: ${data.evalue}`;
    return <Text text={trace} kind="error" />;
  }
  return <Mime data={data} alt={alt} />;
}

/** Has this cell shown a figure that lives on a page, with a still to begin with? */
export function isLive(outputs: Node | undefined): boolean {
  const bundles: Bundle[] = (outputs?.children ?? []).map((each) => each.jupyter_data?.data ?? {});
  return bundles.some(
    (bundle) =>
      PLAYED.some(([mime]) => bundle[mime]) && IMAGES.some((mime) => bundle[mime]),
  );
}

/** Does this widget view, or this output, leave anything to see on a page? */
function isVisible(data: any): boolean {
  const bundle: Bundle = data?.data ?? {};
  return Boolean(data) && (!bundle[WIDGET] || IMAGES.some((mime) => bundle[mime]));
}

/** Prints that follow one another were one text in the notebook. */
function joinStreams(outputs: any[], read: (path: string) => string): any[] {
  const joined: any[] = [];
  for (const output of outputs) {
    const last = joined.at(-1);
    const text = output.path && output.text ? read(output.path) : output.text;
    if (output.output_type === 'stream' && last?.name === output.name) {
      last.text += text;
    } else if (output.output_type === 'stream') {
      joined.push({ output_type: 'stream', name: output.name, text });
    } else {
      joined.push(output);
    }
  }
  return joined;
}

/** Text of more lines than this is a table that few look up. */
const LONG = 12;

/** A long text has a fold of its own; one line is shorter than the line of a fold. */
function Words({ data, lines }: { data: any; lines: number }) {
  const text = <Output data={data} />;
  if (lines < 3) return text;
  const depth: Depth = lines > LONG ? 'everything' : 'core';
  return (
    <details className="fold output" data-depth={depth} open={depth === 'core'}>
      <summary>Output, {lines} lines</summary>
      {text}
    </details>
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
export function Outputs({ node, alt, only, isFolded }: OutputsProps) {
  const { site } = usePage();
  const read = (path: string) => site.bytes(path)?.toString() ?? '';
  const linesOf = (data: any): number => {
    const bundle: Bundle = data.data ?? {};
    if (data.output_type === 'error' || RICH.some((mime) => bundle[mime])) return 0;
    const item = bundle['text/plain'];
    const text = data.text ?? item?.content ?? read(data.path ?? item?.path ?? '');
    return String(text).trim().split('\n').length;
  };
  const shown = (node.children ?? []).map((output) => output.jupyter_data);
  const outputs = joinStreams(shown.filter(isVisible), read)
    .map((data) => ({ data, lines: linesOf(data) }))
    .filter(({ lines }) => !only || (lines > 0) === (only === 'words'));
  if (node.visibility === 'remove' || !outputs.length) {
    return null;
  }
  const body = (
    <div className={node.scroll ? 'outputs scroll' : 'outputs'} id={only === 'words' ? undefined : node.html_id}>
      {outputs.map(({ data, lines }, i) =>
        lines && !only && !isFolded ? (
          <Words data={data} lines={lines} key={i} />
        ) : (
          <Output data={data} alt={alt} key={i} />
        ),
      )}
    </div>
  );
  if (node.visibility !== 'hide') return body;
  return (
    <details className="fold">
      <summary>Show the output</summary>
      {body}
    </details>
  );
}
