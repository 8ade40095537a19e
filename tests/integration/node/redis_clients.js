// What Node's Redis clients do: `redis` (RESP2 and RESP3) and `ioredis`.
// usage: node redis_clients.js redis2|redis3|ioredis PORT-OF-A-FOLLOWER PORT-OF-THE-LEADER
// Prints "kill" when the leader is to be killed and started again, and waits for a line.
'use strict';
const assert = require('assert');
const readline = require('readline');
const {createClient, defineScript, RESP_TYPES, WatchError} = require('redis');
const Redis = require('ioredis');

const [which, follower, leader] = process.argv.slice(2);
const ROUNDS = 200, SCRIPT = 'return {KEYS[1], redis.call("INCRBY", KEYS[1], ARGV[1])}';
const LIBRARY = '#!lua name=nodelib\n' +
  'redis.register_function("node_set", function(keys, args) return redis.call("SET", keys[1], args[1]) end)\n' +
  'redis.register_function{function_name="node_get", flags={"no-writes"},\n' +
  '  callback=function(keys) return redis.call("GET", keys[1]) end}';

const range = (n) => Array.from({length: n}, (_, i) => i);

// Until the group has a leader, and the client its connection back.
async function persist(what) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await what();
    } catch (error) {
      if (attempt >= 2000) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

async function restartLeader() {
  const lines = readline.createInterface({input: process.stdin});
  console.log('kill');
  await new Promise((resolve) => lines.once('line', resolve));
  lines.close();
}

// Every value is one that a message has brought, and in their order.
function collector() {
  const seen = [], waiters = [];
  return {
    seen,
    take(message) {
      seen.push(message);
      while (waiters.length && waiters[0].count <= seen.length) waiters.shift().resolve();
    },
    until(count) {
      return seen.length >= count ? Promise.resolve()
        : new Promise((resolve) => waiters.push({count, resolve}));
    },
  };
}

async function outliveLeader(client, other, messages) {
  await restartLeader();
  for (const i of range(20)) {
    await persist(() => client.set(`after-${i}`, String(i)));
    assert.strictEqual(await persist(() => other.get(`after-${i}`)), String(i));
  }
  // Who subscribed has connected, and subscribed, again by itself.
  await persist(async () => {
    await client.publish('ch', 'back');
    assert.strictEqual(messages.seen[messages.seen.length - 1], 'back');
  });
}

// ---------------------------------------------------------------------------- redis

function nodeRedis(port, RESP) {
  const client = createClient({
    socket: {host: '127.0.0.1', port, reconnectStrategy: () => 20}, RESP, unstableResp3: true,
    scripts: {add: defineScript({
      NUMBER_OF_KEYS: 1, SCRIPT,
      parseCommand(parser, key, by) { parser.pushKey(key); parser.push(String(by)); },
      transformReply: undefined,
    })},
  });
  client.on('error', () => {}); // a connection that is lost: it connects again
  return client.connect();
}

async function values(client) {
  assert.strictEqual(await client.set('s', 'välue', {expiration: {type: 'EX', value: 100}}), 'OK');
  assert.strictEqual(await client.get('s'), 'välue');
  assert.ok(await client.ttl('s') > 90);
  assert.strictEqual(await client.get('none'), null);
  const bytes = Buffer.from([0, 13, 10, 255, 128]);
  await client.set('b', bytes);
  const raw = client.withTypeMapping({[RESP_TYPES.BLOB_STRING]: Buffer});
  assert.ok(bytes.equals(await raw.get('b')));
  await client.hSet('h', {a: '1', b: '2'});
  assert.deepStrictEqual({...await client.hGetAll('h')}, {a: '1', b: '2'});
  await client.zAdd('z', [{value: 'x', score: 1.5}, {value: 'y', score: Infinity}]);
  assert.deepStrictEqual(await client.zRangeWithScores('z', 0, -1),
    [{value: 'x', score: 1.5}, {value: 'y', score: Infinity}]);
  assert.strictEqual(await client.zScore('z', 'x'), 1.5);
  await client.sAdd('set', ['1', '2', '3']);
  assert.deepStrictEqual([...await client.sMembers('set')].sort(), ['1', '2', '3']);
  assert.strictEqual((await client.sPop('set')).length, 1);
  await assert.rejects(client.hGet('s', 'x'), /WRONGTYPE/);
  const keys = [];
  for await (const found of client.scanIterator({COUNT: 3})) keys.push(...found);
  assert.deepStrictEqual([...new Set(keys)].sort(), ['b', 'h', 's', 'set', 'z']);
  // Sent in one go, answered in order.
  const counts = await Promise.all(range(ROUNDS).map(() => client.incr('n')));
  assert.deepStrictEqual(counts, range(ROUNDS).map((i) => i + 1));
}

async function transactions(client, other) {
  assert.deepStrictEqual(await client.multi().set('m', 1).incrBy('m', 4).get('m').exec(), ['OK', 5, '5']);
  assert.deepStrictEqual(await client.multi().set('p', 1).incr('p').execAsPipeline(), ['OK', 2]);
  await client.watch('m');
  await other.set('m', 10);
  await assert.rejects(client.multi().incr('m').exec(), WatchError);
  await client.watch('m');
  assert.deepStrictEqual(await client.multi().incr('m').exec(), [11]);
  await assert.rejects(client.multi().set('m', 1).sendCommand(['NONSENSE']).exec());
  assert.strictEqual(await client.get('m'), '11');
}

async function scripts(client) {
  assert.deepStrictEqual(await client.eval(SCRIPT, {keys: ['e'], arguments: ['5']}), ['e', 5]);
  await client.scriptFlush();
  assert.deepStrictEqual(await client.add('e', 2), ['e', 7]); // EVALSHA, NOSCRIPT, EVAL
  assert.deepStrictEqual(await client.add('e', 2), ['e', 9]);
  await client.functionLoad(LIBRARY, {REPLACE: true});
  assert.strictEqual(await client.fCall('node_set', {keys: ['f'], arguments: ['v']}), 'OK');
  assert.strictEqual(await client.fCallRo('node_get', {keys: ['f'], arguments: []}), 'v');
  const dump = await client.withTypeMapping({[RESP_TYPES.BLOB_STRING]: Buffer}).functionDump();
  await client.functionFlush();
  await assert.rejects(client.fCall('node_get', {keys: ['f'], arguments: []}), /Function not found/);
  await client.functionRestore(dump);
  assert.strictEqual(await client.fCall('node_get', {keys: ['f'], arguments: []}), 'v');
}

// In RESP3 it hands on what the server says.
const entriesOf = (reply) => Array.isArray(reply)
  ? reply[0].messages.map(({id, message}) => [id, message.i])
  : reply.st.map(([id, fields]) => [id, fields[1]]);

async function streams(client, other) {
  const ids = await Promise.all(range(20).map((i) => client.xAdd('st', '*', {i: String(i)})));
  assert.strictEqual(new Set(ids).size, 20);
  await client.xGroupCreate('st', 'g', '0');
  const entries = entriesOf(await client.xReadGroup('g', 'c', {key: 'st', id: '>'}, {COUNT: 5}));
  assert.deepStrictEqual(entries.map(([, i]) => i), ['0', '1', '2', '3', '4']);
  assert.strictEqual(await client.xAck('st', 'g', entries.map(([id]) => id)), 5);
  const waits = other.xRead({key: 'st', id: ids[19]}, {BLOCK: 0});
  await client.xAdd('st', '*', {i: 'late'});
  assert.strictEqual(entriesOf(await waits)[0][1], 'late');
  const element = other.blPop('list', 0);
  await client.rPush('list', 'x');
  assert.deepStrictEqual({...await element}, {key: 'list', element: 'x'});
  assert.strictEqual(await client.blPop('list', 0.01), null);
}

async function redis(RESP) {
  const client = await nodeRedis(follower, RESP), other = await nodeRedis(leader, RESP);
  const subscriber = await nodeRedis(leader, RESP);
  await client.flushAll();
  await values(client);
  await transactions(client, other);
  await scripts(client);
  await streams(client, other);
  const messages = collector(), patterns = collector();
  await subscriber.subscribe('ch', (message) => messages.take(message));
  await subscriber.pSubscribe('c*', (message) => patterns.take(message));
  for (const i of range(ROUNDS)) await client.publish('ch', String(i));
  await messages.until(ROUNDS);
  await patterns.until(ROUNDS);
  assert.deepStrictEqual(messages.seen, range(ROUNDS).map(String));
  await outliveLeader(client, other, messages);
  for (const each of [client, other, subscriber]) each.destroy();
}

// -------------------------------------------------------------------------- ioredis

function io(port) {
  const client = new Redis({host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null,
    retryStrategy: () => 20});
  client.on('error', () => {});
  client.defineCommand('add', {numberOfKeys: 1, lua: SCRIPT});
  return client;
}

async function ioValues(client, other) {
  assert.strictEqual(await client.set('s', 'välue', 'PX', 100000), 'OK');
  assert.strictEqual(await client.get('s'), 'välue');
  assert.deepStrictEqual(await client.hset('h', {a: 1, b: 2}), 2);
  assert.deepStrictEqual(await client.hgetall('h'), {a: '1', b: '2'});
  const bytes = Buffer.from([0, 13, 10, 255, 128]);
  await client.set('b', bytes);
  assert.ok(bytes.equals(await client.getBuffer('b')));
  const pipeline = client.pipeline();
  range(ROUNDS).forEach(() => pipeline.incr('n'));
  pipeline.hget('s', 'x');
  const answers = await pipeline.exec();
  assert.deepStrictEqual(answers.slice(0, ROUNDS).map(([, n]) => n), range(ROUNDS).map((i) => i + 1));
  assert.match(answers[ROUNDS][0].message, /WRONGTYPE/);
  assert.deepStrictEqual(await client.multi().set('m', 1).incr('m').exec(), [[null, 'OK'], [null, 2]]);
  await client.watch('m');
  await other.set('m', 5);
  assert.strictEqual(await client.multi().incr('m').exec(), null);
  await assert.rejects(client.multi().set('m').exec(), /EXECABORT/);
  assert.deepStrictEqual(await client.add('e', 5), ['e', 5]);
  await client.script('FLUSH');
  assert.deepStrictEqual(await client.add('e', 2), ['e', 7]);
  const found = [];
  for await (const keys of client.scanStream({count: 3})) found.push(...keys);
  assert.deepStrictEqual([...new Set(found)].sort(), ['b', 'e', 'h', 'm', 'n', 's']);
}

async function ioStreams(client, other) {
  const ids = await Promise.all(range(20).map((i) => client.xadd('st', '*', 'i', i)));
  assert.strictEqual(new Set(ids).size, 20);
  await client.xgroup('CREATE', 'st', 'g', '0');
  const [[, entries]] = await client.xreadgroup('GROUP', 'g', 'c', 'COUNT', 5, 'STREAMS', 'st', '>');
  assert.deepStrictEqual(entries.map(([, fields]) => fields[1]), ['0', '1', '2', '3', '4']);
  assert.strictEqual(await client.xack('st', 'g', ...entries.map(([id]) => id)), 5);
  const waits = other.xread('BLOCK', 0, 'STREAMS', 'st', ids[19]);
  await client.xadd('st', '*', 'i', 'late');
  assert.strictEqual((await waits)[0][1][0][1][1], 'late');
  const element = other.blpop('list', 0);
  await client.rpush('list', 'x');
  assert.deepStrictEqual(await element, ['list', 'x']);
}

async function ioredis() {
  const client = io(follower), other = io(leader), subscriber = io(leader);
  await client.flushall();
  await ioValues(client, other);
  await ioStreams(client, other);
  const messages = collector(), patterns = collector();
  subscriber.on('message', (channel, message) => messages.take(message));
  subscriber.on('pmessage', (pattern, channel, message) => patterns.take(message));
  assert.strictEqual(await subscriber.subscribe('ch', 'other'), 2);
  assert.strictEqual(await subscriber.psubscribe('c*'), 3);
  for (const i of range(ROUNDS)) await client.publish('ch', String(i));
  await messages.until(ROUNDS);
  await patterns.until(ROUNDS);
  assert.deepStrictEqual(messages.seen, range(ROUNDS).map(String));
  await outliveLeader(client, other, messages);
  for (const each of [client, other, subscriber]) each.disconnect();
}

const runs = {redis2: () => redis(2), redis3: () => redis(3), ioredis};
runs[which]().then(() => {
  console.log('ok');
  process.exit(0);
}).catch((error) => {
  console.error(error);
  process.exit(1);
});
