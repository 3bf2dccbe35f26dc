// JupyterLab looks for the place that a link names before its cell is drawn, and cells
// that are drawn later push it away: it is sought until it stays, or the reader moves.
const MOVES = ['wheel', 'pointerdown', 'keydown'];

async function arrive(panel, id) {
  let moved = false;
  const move = () => (moved = true);
  for (const kind of MOVES) window.addEventListener(kind, move, true);
  let last, still = 0;
  for (let round = 0; round < 200 && still < 5 && !moved && panel.isVisible; round++) {
    await new Promise((done) => setTimeout(done, 300));
    const node = panel.content.widgets.find((cell) => cell.model.id === id)?.node;
    if (!node?.isConnected) continue;
    still = node.getBoundingClientRect().top === last ? still + 1 : 0;
    node.scrollIntoView();
    last = node.getBoundingClientRect().top;
  }
  for (const kind of MOVES) window.removeEventListener(kind, move, true);
}

const plugin = {
  id: 'book-lab:arrive',
  autoStart: true,
  activate: (app) => {
    app.commands.commandExecuted.connect(async (_, { id, args, result }) => {
      if (id !== 'rendermime:handle-local-link') return;
      const [kind, place] = String(args.id ?? '').split('=');
      if (kind !== '#cell-id') return;
      await result;
      const panel = app.shell.currentWidget;
      if (!panel?.context) return;
      await panel.context.ready;
      await arrive(panel, place);
    });
  },
};

(window._JUPYTERLAB ??= {})['book-lab'] = { init() {}, get: async () => () => plugin };
