// What Node's clients do to a cache: memcached (text) and memjs (binary).
// usage: node memcached_clients.js HOST:PORT
'use strict';
const assert = require('assert');
const Memcached = require('memcached');
const memjs = require('memjs');

const server = process.argv[2];

function call(client, method, ...args) {
  return new Promise((resolve, reject) =>
    client[method](...args, (error, value) => error ? reject(error) : resolve(value)));
}

async function text() {
  const client = new Memcached(server, {retries: 0, timeout: 20000});
  assert.strictEqual(await call(client, 'set', 'js', 'value', 100), true);
  assert.strictEqual(await call(client, 'get', 'js'), 'value');
  assert.strictEqual(await call(client, 'get', 'js-none'), undefined);
  await call(client, 'set', 'js-n', 10, 0);
  assert.strictEqual(await call(client, 'incr', 'js-n', 5), 15);
  assert.strictEqual(await call(client, 'decr', 'js-n', 1), 14);
  const {cas} = await call(client, 'gets', 'js');
  // A token that JavaScript's numbers cannot hold would fail here.
  assert.strictEqual(String(Number(cas)), String(cas));
  assert.strictEqual(await call(client, 'cas', 'js', 'newer', Number(cas), 0), true);
  assert.strictEqual(await call(client, 'cas', 'js', 'stale', Number(cas), 0), false);
  assert.strictEqual(await call(client, 'append', 'js', '!'), true);
  assert.deepStrictEqual(await call(client, 'getMulti', ['js', 'js-none', 'js-n']),
    {'js': 'newer!', 'js-n': 14});
  assert.strictEqual(await call(client, 'touch', 'js', 50), true);
  const binary = Buffer.from([0, 13, 10, 255, 128]);
  await call(client, 'set', 'js-b', binary, 0);
  assert.ok(binary.equals(await call(client, 'get', 'js-b')));
  assert.strictEqual(await call(client, 'del', 'js'), true);
  await assert.rejects(call(client, 'add', 'js-n', 1, 0));
  client.end();
}

async function binary() {
  const client = memjs.Client.create(server, {retries: 0, timeout: 20});
  assert.strictEqual(await client.set('mj', 'value', {expires: 100}), true);
  assert.strictEqual((await client.get('mj')).value.toString(), 'value');
  assert.strictEqual((await client.get('mj-none')).value, null);
  assert.strictEqual(await client.add('mj', 'again', {}), false);
  assert.strictEqual(await client.replace('mj', 'newer', {}), true);
  assert.strictEqual((await client.increment('mj-n', 5, {initial: 100})).value, 100);
  assert.strictEqual((await client.increment('mj-n', 5, {})).value, 105);
  assert.strictEqual((await client.decrement('mj-n', 6, {})).value, 99);
  assert.strictEqual(await client.append('mj', '!'), true);
  // (Its prepend sends an append.)
  assert.strictEqual((await client.get('mj')).value.toString(), 'newer!');
  assert.strictEqual(await client.touch('mj', 50), true);
  assert.strictEqual(await client.delete('mj'), true);
  assert.strictEqual(await client.delete('mj'), false);
  const many = {};
  for (let i = 0; i < 20; i++) {
    await client.set(`mj-${i}`, `value ${i}`, {});
    many[`mj-${i}`] = `value ${i}`;
  }
  for (const key of Object.keys(many))
    assert.strictEqual((await client.get(key)).value.toString(), many[key]);
  const stats = await new Promise((resolve, reject) =>
    client.stats((error, name, values) => error ? reject(error) : resolve(values)));
  assert.ok(Number(stats.pid) > 0);
  client.close();
}

text().then(binary).then(() => {
  console.log('ok');
  process.exit(0);
}).catch((error) => {
  console.error(error);
  process.exit(1);
});
