// A mystmd plugin: directives for what the theme makes from the whole book.
//   {ledger}    every labelled equation, its source and its check
//   {errata}    what the notes say and what is right
//   {coverage}  what the notes treat, and where the book does
//   {modules}   the modules of the package and what they import
//   {names}     every public name of the package and where it is used
// Each leaves a node of its name; only the theme has seen every page.
const directive = (name) => ({ name, run: () => [{ type: name }] });

export default {
  name: 'Back matter',
  directives: ['ledger', 'errata', 'coverage', 'modules', 'names'].map(directive),
};
