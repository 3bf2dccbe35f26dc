import katex from 'katex';

function Formula({ tex }: { tex: string }) {
  const html = katex.renderToString(tex, { throwOnError: true });
  return <span className="maths" dangerouslySetInnerHTML={{ __html: html }} />;
}

/** A line of words with TeX between dollar signs. */
export function WithTex({ text }: { text: string }) {
  return text.split('$').map((piece, i) => (i % 2 ? <Formula key={i} tex={piece} /> : piece));
}

/** The same as plain words, for search. */
export const withoutTex = (text: string) => text.replace(/[$\\{}]/g, '');
