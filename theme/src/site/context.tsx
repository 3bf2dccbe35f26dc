import { createContext, useContext } from 'react';
import type { Site } from './site';
import type { Page } from './types';

interface PageContext {
  site: Site;
  page: Page;
}

const Context = createContext<PageContext | undefined>(undefined);

export const PageProvider = Context.Provider;

/** The page that is rendered, and its site. */
export const usePage = (): PageContext => useContext(Context)!;
