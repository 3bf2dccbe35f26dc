import { usePage } from './context';

const PIECES = /(`[^`]+`|\beq-[a-z0-9-]*[a-z0-9])/;

/** A piece of a docstring: `code`, the label of an equation, or words. */
function Piece({ text }: { text: string }) {
  const { site } = usePage();
  if (text.startsWith('`')) return <code>{text.slice(1, -1)}</code>;
  const target = text.startsWith('eq-') && site.targets.get(text);
  if (!target) return text;
  return (
    <a className="xref" href={target.href}>
      equation ({target.number})
    </a>
  );
}

/** A line of a docstring. */
export const DocWords = ({ text }: { text: string }) =>
  text.split(PIECES).map((piece, i) => <Piece text={piece} key={i} />);

/** A whole docstring, paragraph by paragraph. */
export const Docstring = ({ doc }: { doc: string }) =>
  doc.split(/\n\s*\n/).map((paragraph, i) => (
    <p key={i}>
      <DocWords text={paragraph} />
    </p>
  ));
