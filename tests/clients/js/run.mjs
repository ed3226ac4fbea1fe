// Ask a client everything once, and print what it made of it as JSON. argv: the questions, and the client's variant.
export const asked = JSON.parse(process.argv[2]);
export const variant = process.argv[3];
export const weather = ({ city }) => asked.results[city];

// An answer, or the exception that the client raised; nothing is retried.
async function fact(ask, at) {
  try {
    return { said: await ask(at) };
  } catch (error) {
    return { error: error.name === "Error" ? error.constructor.name : error.name, status: error.status ?? error.statusCode, message: error.message };
  }
}

// `client` has an async function for each question; `tools` and `streamedTools` return the calls and the last answer.
export async function run(client) {
  const hosted = { url: asked.url, key: asked.key, model: asked.hosted };
  const echo = { ...hosted, model: asked.echo };
  const facts = {};
  for (const question of ["chat", "stream", "tools", "streamedTools", "structured", "image"]) {
    facts[question] = await fact(client[question], hosted);
  }
  facts.refused = await fact(client.chat, hosted);
  facts.broken = await fact(client.stream, hosted);
  facts.unknownModel = await fact(client.chat, { ...hosted, model: "gpt-17" });
  facts.wrongKey = await fact(client.chat, { ...hosted, key: "sg-wrong" });
  facts.echo = await fact(client.chat, echo);
  facts.echoStream = await fact(client.stream, echo);
  console.log(JSON.stringify(facts));
}
