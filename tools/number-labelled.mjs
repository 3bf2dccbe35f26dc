// A mystmd plugin: only equations with a label get a number.
// Without it every display formula is numbered, also those inside proofs that
// nothing ever refers to.
function* nodes(node) {
  yield node;
  for (const child of node.children ?? []) yield* nodes(child);
}

const numberLabelled = {
  name: 'number-labelled',
  stage: 'document',
  plugin: () => (tree) => {
    for (const node of nodes(tree)) {
      if (node.type === 'math' && !node.label && !node.identifier) {
        node.enumerated = false;
      }
    }
  },
};

export default { name: 'Number labelled equations', transforms: [numberLabelled] };
