// What programs do with node-redis, done to the server at a port. Usage: see check.mjs.

import {
  ALL_BYTES, IS_REFERENCE, PORT, equal, eventually, fails, ok, require, restart, run,
} from './check.mjs';

const { ErrorReply, MultiErrorReply, RESP_TYPES, SimpleError, WatchError } = require('redis');
const { createClient, createClientPool, version } = {
  ...require('redis'), version: require('@redis/client/package.json').version,
};
const as_buffers = { [RESP_TYPES.BLOB_STRING]: Buffer };

/** A client as the library makes it by default, and the options given, connected. */
async function connect(options = {}) {
  const made = createClient({ url: `redis://127.0.0.1:${PORT}`, ...options });
  // The library demands a listener; what matters is told by the calls too.
  made.on('error', () => {});
  return made.connect();
}

let client;
let binary;

async function connects_with_resp3() {
  client = await connect();
  binary = client.withTypeMapping(as_buffers);
  equal(await client.ping(), 'PONG');
  const about = await client.clientInfo();
  if (!IS_REFERENCE) {
    equal([about.resp, about.libName, about.libVer], [3, 'node-redis', version]);
  }
  const hello = await client.hello();
  equal([hello.server, hello.proto, hello.role], ['redis', 3, 'master']);
  const old = await connect({ RESP: 2 });
  equal(await old.configGet('maxclients'), await client.configGet('maxclients'));
  old.destroy();
}

async function strings() {
  equal(await client.set('bytes', ALL_BYTES), 'OK');
  equal(await binary.get('bytes'), ALL_BYTES);
  equal(await client.set(ALL_BYTES, ''), 'OK');
  equal(await client.get(ALL_BYTES), '');
  equal(await client.set('größe:漢字', 'naïve 🦀 ответ'), 'OK');
  equal(await client.get('größe:漢字'), 'naïve 🦀 ответ');
  equal(await binary.getRange('bytes', 10, 12), Buffer.from('\n\x0b\x0c'));
  equal(await client.append('bytes', '\r\n'), 258);
  equal(await client.strLen('bytes'), 258);
  equal(await client.get('absent'), null);
  equal(await client.mSet({ a: '1', 'b\r\n': '\0', c: '1.5' }), 'OK');
  equal(await client.mGet(['a', 'b\r\n', 'absent', 'c']), ['1', '\0', null, '1.5']);
  equal(await client.set('a', 2, { condition: 'NX' }), null);
  equal(await client.set('a', 2, { GET: true }), '1');
  equal(await client.incrBy('a', 40), 42);
  equal(await client.incrByFloat('c', 0.25), '1.75');
  equal(await client.setBit('bits', 7, 1), 0);
  equal(await client.bitCount('bits'), 1);
  const add = { operation: 'INCRBY', encoding: 'u8', offset: 0, increment: 1 };
  equal(await client.bitField('bits', [add, { operation: 'GET', encoding: 'u8', offset: 0 }]), [
    2, 2,
  ]);
  equal(await client.getDel('a'), '42');
  equal(await client.exists(['a', 'c', 'c']), 2);
  equal(await client.type('c'), 'string');
  equal(await client.rename('c', 'd'), 'OK');
  equal(await client.copy('d', 'e'), 1);
  equal(await client.lcsLen('d', 'e'), 4);
  const same = await client.lcsIdxWithMatchLen('d', 'e');
  equal(same, { matches: [[[0, 3], [0, 3], 4]], len: 4 });
  equal(await client.unlink(['d', 'e', 'absent']), 2);
  await fails(SimpleError, client.incr('bytes'), 'value is not an integer or out of range');
}

async function large_values() {
  const large = Buffer.concat(Array(20_480).fill(ALL_BYTES));
  equal(await client.set('large', large), 'OK');
  ok(large.equals(await binary.get('large')), '5 MiB there and back', large.length);
  equal(await client.strLen('large'), large.length);
  equal(await client.del('large'), 1);
}

async function pipelines() {
  // All that is asked for in one turn of the loop goes out as one pipeline.
  const numbers = Array.from({ length: 1_000 }, (_, number) => number);
  const replies = await Promise.all(
    numbers.flatMap((n) => [client.set(`p:${n}`, n), client.get(`p:${n}`)]),
  );
  equal(replies, numbers.flatMap((n) => ['OK', `${n}`]));
  const mixed = await Promise.allSettled([
    client.set('text', 'x'), client.incr('text'), client.get('text'),
    client.sendCommand(['NOSUCH']),
  ]);
  equal(mixed.map((one) => one.value), ['OK', undefined, 'x', undefined]);
  ok(mixed[3].reason.message.includes("unknown command 'NOSUCH'"), 'its error', mixed[3]);
  equal(await client.multi().set('piped', 1).incr('piped').execAsPipeline(), ['OK', 2]);
}

async function transactions() {
  await client.set('balance', 10);
  equal(await client.multi().incr('balance').get('balance').exec(), [11, '11']);
  const pool = await createClientPool({ url: `redis://127.0.0.1:${PORT}` }).connect();
  const change = (meddle) => pool.execute(async (own) => {
    await own.watch('balance');
    const seen = Number(await own.get('balance'));
    await meddle();
    return own.multi().set('balance', 2 * seen).exec();
  });
  equal(await change(() => {}), ['OK']);
  await fails(WatchError, change(() => client.set('balance', 5)), '');
  equal(await client.get('balance'), '5', 'the other one came first');
  equal((await Promise.all(Array.from({ length: 50 }, () => pool.incr('pooled')))).length, 50);
  equal(await pool.get('pooled'), '50');
  pool.destroy();
  const bad = client.multi().set('balance', 1).addCommand(['NOSUCH']).exec();
  await fails(SimpleError, bad, "unknown command 'NOSUCH'");
  equal(await client.get('balance'), '5', 'nothing of it was done');
  const late = client.multi().incr('balance').incr('text').incr('balance').exec();
  const error = await fails(MultiErrorReply, late, '1 commands failed');
  equal(error.replies[2], 7, 'what stands around an error is done');
  ok(error.replies[1] instanceof ErrorReply, 'its error', error.replies);
}

async function scans() {
  const names = Array.from({ length: 10_000 }, (_, number) => `scan:${number}`);
  await Promise.all(names.map((name) => client.set(name, '')));
  for (const options of [{}, { COUNT: 1_000, TYPE: 'string' }]) {
    const found = new Set();
    for await (const keys of client.scanIterator({ MATCH: 'scan:*', ...options })) {
      keys.forEach((key) => found.add(key));
    }
    equal([...found].sort(), [...names].sort(), 'each key');
  }
  const page = await client.scan('0', { COUNT: 10 });
  ok(page.cursor !== '0' && page.keys.length >= 10, 'a page', page);
}

async function configuration() {
  equal(await client.configSet('maxclients', '4000'), 'OK');
  equal(await client.configGet('maxclients'), { maxclients: '4000' });
  equal(await client.configSet({ timeout: '300', 'slowlog-max-len': '64' }), 'OK');
  equal(await client.configGet(['timeout', 'slowlog-m*']), {
    timeout: '300', 'slowlog-max-len': '64',
  });
  equal((await client.configGet('*')).appendfsync, 'always');
  await fails(SimpleError, client.configSet('nosuch', '1'), 'Unknown option');
  equal(await client.configResetStat(), 'OK');
  equal(await client.configSet('timeout', '0'), 'OK');
}

async function information() {
  const text = await client.info();
  const fields = new Map(text.split('\r\n').filter((l) => l.includes(':')).map((l) => {
    const colon = l.indexOf(':');
    return [l.slice(0, colon), l.slice(colon + 1)];
  }));
  for (const name of ['redis_version', 'used_memory', 'aof_enabled', 'role', 'loading', 'db0']) {
    ok(fields.get(name), name, fields.get(name));
  }
  equal(Number(fields.get('tcp_port')), PORT);
  ok((await client.info('keyspace')).startsWith('# Keyspace\r\ndb0:keys='), 'keyspace');
}

async function expiry() {
  equal(await client.set('brief', 1, { expiration: { type: 'PX', value: 40 } }), 'OK');
  await eventually('the key lapses', async () => (await client.get('brief')) === null);
  equal([await client.ttl('brief'), await client.ttl('bytes')], [-2, -1]);
  equal(await client.setEx('long', 1_000, 'x'), 'OK');
  const left = await client.ttl('long');
  ok(left >= 990 && left <= 1_000, 'the time left', left);
  equal(await client.expire('long', 500, 'GT'), 0);
  equal(await client.expire('long', 2_000, 'GT'), 1);
  const at = Math.floor(Date.now() / 1_000) + 3_000;
  equal(await client.expireAt('long', at), 1);
  equal([await client.expireTime('long'), await client.pExpireTime('long')], [at, 1_000 * at]);
  equal(await client.getEx('long', { type: 'PERSIST' }), 'x');
  equal(await client.ttl('long'), -1);
}

async function clients() {
  const named = await connect({ name: 'me' });
  equal(await named.clientGetName(), 'me');
  equal(await named.clientSetName('other'), 'OK');
  const about = await named.clientInfo();
  const id = await named.clientId();
  equal([about.id, about.name, about.db], [id, 'other', 0]);
  const [found] = await client.clientList({ ID: [`${id}`] });
  equal([found.addr, found.name], [about.addr, 'other']);
  ok((await client.clientList({ TYPE: 'NORMAL' })).length >= 2, 'clients');
  if (!IS_REFERENCE) {
    equal(await named.sendCommand(['CLIENT', 'SETINFO', 'LIB-NAME', 'mine']), 'OK');
    equal((await named.clientInfo()).libName, 'mine');
  }
  equal(await named.clientNoEvict(true), 'OK');
  const killed = new Promise((resolve) => named.once('error', resolve));
  equal(await client.clientKill({ filter: 'ID', id: `${id}` }), 1);
  await killed;
  equal(await named.ping(), 'PONG', 'it connects anew by itself');
  equal(await named.clientGetName(), 'me', 'under the name it was given');
  named.destroy();
  equal(await client.clientPause(1, 'WRITE'), 'OK');
  equal(await client.clientUnpause(), 'OK');
}

async function errors() {
  for (const [line, text] of [
    ['GET', "wrong number of arguments for 'get' command"],
    ['SET k v EX 0', "invalid expire time in 'set' command"],
    ['SET k v NX XX', 'syntax error'],
    ['CONFIG NOSUCH', "unknown subcommand 'NOSUCH'"],
    ['SELECT 99', 'DB index is out of range'],
    ['EXEC', 'EXEC without MULTI'],
  ]) {
    await fails(SimpleError, client.sendCommand(line.split(' ')), text);
  }
  await client.configSet('requirepass', 'secret');
  const once = { socket: { host: '127.0.0.1', port: PORT, reconnectStrategy: false } };
  try {
    const refused = createClient(once);
    refused.on('error', () => {});
    await fails(SimpleError, refused.connect(), 'NOAUTH');
    const wrong = createClient({ ...once, password: 'wrong' });
    wrong.on('error', () => {});
    await fails(SimpleError, wrong.connect(), 'WRONGPASS');
    const right = await connect({ password: 'secret' });
    equal(await right.ping(), 'PONG');
    right.destroy();
  } finally {
    await client.configSet('requirepass', '');
  }
}

async function introspection() {
  const [get] = await client.commandInfo(['get']);
  equal([get.name, get.arity, get.flags.has('readonly')], ['get', 2, true]);
  equal((await client.command()).length, await client.commandCount());
  ok((await client.commandList()).includes('getrange'), 'a command');
  const mset = ['MSET', 'a', '1', 'b', '2'];
  equal(await client.commandGetKeys(mset), ['a', 'b']);
  equal((await client.commandGetKeysAndFlags(mset)).map((one) => one.key), ['a', 'b']);
  equal((await client.sendCommand(['COMMAND', 'DOCS', 'set'])).set.group, 'string');
  equal(await client.objectEncoding('bytes'), 'raw');
  ok((await client.memoryUsage('bytes')) > 258, 'bytes used');
  equal((await client.memoryStats())['keys.count'], await client.dbSize());
  equal(await client.role(), { role: 'master', replicationOffest: 0, replicas: [] });
  ok(Math.abs((await client.time())[0] - Date.now() / 1_000) < 60, 'the time');
  equal(await client.latencyLatest(), []);
  equal(await client.moduleList(), []);
  equal(await client.wait(0, 10), 0);
}

async function monitoring() {
  const watcher = await connect();
  const line = new Promise((resolve) => watcher.monitor(resolve).then(() => client.set('m', '"')));
  ok(/^[0-9.]+ \[0 127.0.0.1:[0-9]+\] "SET" "m" "\\""$/.test(await line), 'a line', await line);
  watcher.destroy();
}

async function databases() {
  const other = await connect({ database: 9 });
  equal(await other.set('elsewhere', 1), 'OK');
  equal([await other.dbSize(), await client.exists('elsewhere')], [1, 0]);
  equal(await other.move('elsewhere', 0), 1);
  equal(await client.get('elsewhere'), '1');
  equal(await other.flushDb('ASYNC'), 'OK');
  other.destroy();
}

async function caches_on_the_client() {
  const options = { RESP: 3, clientSideCache: { maxEntries: 100 } };
  options.socket = { host: '127.0.0.1', port: PORT, reconnectStrategy: false };
  if (!IS_REFERENCE) {
    // A cache that nobody keeps true is worse than none: the library is told so.
    const refused = createClient(options);
    refused.on('error', () => {});
    await fails(SimpleError, refused.connect(), 'does not track keys');
    return;
  }
  const caching = await connect(options);
  await client.set('cached', 'old');
  equal([await caching.get('cached'), await caching.get('cached')], ['old', 'old']);
  await client.set('cached', 'new');
  await eventually('the change is told', async () => (await caching.get('cached')) === 'new');
  caching.destroy();
}

async function finds_a_restarted_server_and_all_it_was_told() {
  const keys = Array.from({ length: 100 }, (_, number) => `kept:${number}`);
  await Promise.all(keys.map((key, at) => client.set(key, at, { EX: 10_000 })));
  await client.set('kept:last', ALL_BYTES);
  const before = await client.dbSize();
  const lost = new Promise((resolve) => client.once('error', resolve));
  await restart();
  await lost;
  // The library connects anew by itself, and holds back what it is asked for meanwhile.
  equal(await binary.get('kept:last'), ALL_BYTES);
  equal(await client.dbSize(), before);
  equal(await client.mGet(keys), keys.map((_, at) => `${at}`));
  const left = await client.ttl('kept:7');
  ok(left > 9_000 && left <= 10_000, 'the time left', left);
}

await run([
  connects_with_resp3, strings, large_values, pipelines, transactions, scans, configuration,
  information, expiry, clients, errors, introspection, monitoring, databases,
  caches_on_the_client, finds_a_restarted_server_and_all_it_was_told,
]);
