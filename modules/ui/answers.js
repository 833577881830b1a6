// Late answers: what a person has typed or chosen since an event began is not overwritten by the event's answer.
// Gradio sends each event's values for all of its outputs; this stands between its stream and the page. After page.js.

const Answers = {
  touched: new Map(), // component's number: when a person last changed it
  pressed: new Map(), // component's number: when it was clicked, until its event begins: a busy page needs a moment
  joining: new Map(), // events that the page has sent and the server has not named yet: when it will have
  running: new Map(), // event's id: {number, outputs, since, sends, first}
  chains: new Map(), // event's number: when its last run began; one that follows it began then too
  cause: { at: -1000, since: 0 }, // the last answer: when it came, and when its event began
  newest: ['forecast'], // elements of which an older event's answer never replaces a newer one's
  answered: new Map(), // component's number of these: when the event began whose answer it shows
  parts: null, // element's id: component's number

  number(element) {
    if (!Answers.parts) {
      Answers.parts = new Map();
      for (const part of window.gradio_config?.components ?? []) {
        Answers.parts.set(part.props?.elem_id || `component-${part.id}`, part.id);
      }
    }
    for (let at = element; at; at = at.parentElement) {
      if (at.id && Answers.parts.has(at.id)) return Answers.parts.get(at.id);
    }
    return null;
  },
  touch(event) {
    if (!event.isTrusted || !event.target.matches?.('input, textarea, select, [contenteditable]')) return;
    const part = Answers.number(event.target);
    if (part !== null) Answers.touched.set(part, performance.now());
  },
  press(event) {
    const part = event.isTrusted ? Answers.number(event.target) : null;
    if (part === null) return;
    if (event.type === 'click') Answers.pressed.set(part, performance.now());
    else if (event.key === 'Enter') Answers.pressed.delete(part); // what is sent now was typed after the click
  },
  began(part, follows) { // when the event that this component sends now began; `follows`: the number of one before it
    const now = performance.now();
    if (Answers.chains.has(follows)) return Answers.chains.get(follows);
    const pressed = Answers.pressed.get(part);
    Answers.pressed.delete(part);
    if (pressed !== undefined && now - pressed < 3000) return pressed;
    return now - Answers.cause.at < 500 ? Answers.cause.since : now; // an answer's change of a component began it
  },

  // whether events that may set this element are still running; waits for them, but not for ever
  async settled(id) {
    const part = Answers.parts?.get(id) ?? Answers.number(document.getElementById(id));
    for (const start = performance.now(); performance.now() - start < 10000;) {
      const unanswered = [...Answers.joining.keys(), ...Answers.running.values()];
      if (!unanswered.some((event) => event.outputs.includes(part))) return;
      await new Promise((done) => { setTimeout(done, 30); });
    }
  },

  acts: (event, part) => event?.targets.some(([id, what]) => id === part && (what === 'click' || what === 'submit')),
  late: (event) => event.outputs.some(
    (part) => Answers.touched.get(part) > event.since || Answers.answered.get(part) > event.since,
  ),
  note(event) {
    for (const part of Answers.newest.map((id) => Answers.parts?.get(id))) {
      if (!event.outputs.includes(part) || Answers.answered.get(part) > event.since) continue;
      Answers.answered.set(part, event.since);
    }
  },
  kept(value, part, since) { // an output without what would overwrite the person's value
    if (Answers.answered.get(part) > since) return { __type__: 'update' };
    if (!(Answers.touched.get(part) > since)) return value;
    if (value === null || typeof value !== 'object' || value.__type__ !== 'update') return { __type__: 'update' };
    const { value: _, ...rest } = value;
    return rest;
  },
  // of an output's differences from the event's last answer: without those that would overwrite the person's value
  edits(edits, part, since) {
    if (!(Answers.touched.get(part) > since)) return edits;
    return edits.flatMap(([action, path, value]) => {
      if (path.length === 0 && action === 'replace') return [[action, path, Answers.kept(value, part, since)]];
      if (path.length === 0 || typeof path[0] === 'number') return [['replace', [], { __type__: 'update' }]];
      const fits = path[0] === 'value' ? action === 'delete' : path.length === 1 || path[0] === 'choices';
      return fits ? [[action, path, value]] : [];
    });
  },
  async message(text) {
    const id = /"event_id": ?"([^"]+)"/.exec(text)?.[1];
    // the answer may be quicker than its id
    if (id && !Answers.running.has(id)) await Promise.allSettled(Answers.joining.values());
    const event = Answers.running.get(id);
    const ended = /"msg": ?"process_completed"/.test(text);
    if (!event) return text;
    const grows = /"msg": ?"process_generating"/.test(text);
    const begun = event.first && grows;
    if (ended) Answers.running.delete(id);
    if (ended) Answers.chains.set(event.number, event.since);
    if (event.sends && (ended || begun)) Sending.answered(event.sends);
    if (begun) event.first = false;
    if (ended || begun) Answers.cause = { at: performance.now(), since: event.since };
    if (ended || begun) Answers.note(event);
    if (!(ended || grows) || !Answers.late(event)) return text;
    const told = JSON.parse(text.slice('data: '.length));
    if (!Array.isArray(told.output?.data)) return text;
    const fitting = grows && !begun ? Answers.edits : Answers.kept;
    told.output.data = told.output.data.map((value, at) => fitting(value, event.outputs[at], event.since));
    return `data: ${JSON.stringify(told)}`;
  },
  stream(response) {
    let rest = '';
    const filter = new TransformStream({
      async transform(chunk, sink) {
        const messages = (rest + chunk).split('\n\n');
        rest = messages.pop();
        for (const each of messages) sink.enqueue(`${await Answers.message(each)}\n\n`);
      },
      flush(sink) { if (rest) sink.enqueue(rest); },
    });
    const body = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(filter).pipeThrough(new TextEncoderStream());
    return new Response(body, { status: response.status, headers: response.headers });
  },

  async join(event, answered) {
    let id = null;
    try {
      const answer = await answered;
      id = answer.ok && (await answer.clone().json()).event_id;
      if (id) Answers.running.set(id, event);
      return answer;
    } finally {
      if (!id && event.sends) Sending.failed(event.sends);
    }
  },
  watch() {
    const real = window.fetch;
    window.fetch = async (what, how) => {
      const url = String(what?.url ?? what);
      if (url.includes('/queue/data') && !how?.method) {
        const answer = await real(what, how);
        return answer.ok && answer.body ? Answers.stream(answer) : answer;
      }
      if (!url.includes('/queue/join')) return real(what, how);
      const asked = JSON.parse(how.body);
      const known = window.gradio_config?.dependencies?.find((each) => each.id === asked.fn_index);
      const event = {
        number: asked.fn_index,
        outputs: known?.outputs ?? [],
        since: Answers.began(asked.trigger_id, known?.trigger_after),
        sends: Answers.acts(known, asked.trigger_id) ? Sending.joining(how.body) : null, // the message
        first: true,
      };
      const joined = Answers.join(event, real(what, how));
      Answers.joining.set(event, joined);
      return joined.finally(() => Answers.joining.delete(event));
    };
  },
};
window.Answers = Answers;

Answers.watch();
for (const kind of ['click', 'keydown']) document.addEventListener(kind, Answers.press, true);
for (const kind of ['input', 'change']) document.addEventListener(kind, Answers.touch, true);
