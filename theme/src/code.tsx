import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import diff from 'highlight.js/lib/languages/diff';
import ini from 'highlight.js/lib/languages/ini';
import json from 'highlight.js/lib/languages/json';
import makefile from 'highlight.js/lib/languages/makefile';
import python from 'highlight.js/lib/languages/python';
import yaml from 'highlight.js/lib/languages/yaml';

const LANGUAGES = { bash, diff, ini, json, makefile, python, yaml };
const ALIASES: Record<string, string> = {
  console: 'bash',
  ipython3: 'python',
  shell: 'bash',
  toml: 'ini',
};

for (const [name, language] of Object.entries(LANGUAGES)) {
  hljs.registerLanguage(name, language);
}

interface CodeProps {
  value: string;
  lang?: string;
  id?: string;
}

/** Code as HTML with classes for its colours; undefined for an unknown language. */
export function highlight(value: string, lang: string): string | undefined {
  const language = ALIASES[lang] ?? lang;
  return hljs.getLanguage(language) && hljs.highlight(value, { language }).value;
}

/** A block of code, coloured here so that the page needs no script for it. */
export function Code({ value, lang = '', id }: CodeProps) {
  const label = lang ? `${lang} code` : 'code';
  const html = highlight(value, lang);
  // A box that scrolls sideways must be reachable by keyboard.
  return (
    <div className="code" id={id}>
      <pre tabIndex={0} role="region" aria-label={label}>
        {html === undefined ? (
          <code>{value}</code>
        ) : (
          <code dangerouslySetInnerHTML={{ __html: html }} />
        )}
      </pre>
    </div>
  );
}
