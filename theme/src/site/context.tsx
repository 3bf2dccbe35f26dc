import { createContext, useContext } from 'react';
import type { Site } from './site';
import type { Page } from './types';

interface PageContext {
  site: Site;
  page: Page;
}

const Context = createContext<PageContext | undefined>(undefined);

export const PageProvider = Context.Provider;

export function usePage(): PageContext {
  const context = useContext(Context);
  if (!context) throw new Error('rendered outside of a page');
  return context;
}
