// One replica: RxDB's memory storage, its WebRTC replication over node-datachannel. Commands are JSON lines on
// standard input, each answered with one on standard output.
import fs from 'node:fs';
import readline from 'node:readline';
import { createRxDatabase } from 'rxdb/plugins/core';
import { getRxStorageMemory } from 'rxdb/plugins/storage-memory';
import { createSimplePeerWrtc, getConnectionHandlerSimplePeer, replicateWebRTC } from 'rxdb/plugins/replication-webrtc';
import { WebSocket } from 'ws';
import * as polyfill from 'node-datachannel/polyfill';

const print = console.log;
console.log = () => {};

const schema = {
    version: 0, primaryKey: 'id', type: 'object', required: ['id'],
    properties: {
        id: { type: 'string', maxLength: 36 }, title: { type: 'string' }, body: { type: 'string' },
        done: { type: 'boolean' }, rank: { type: 'integer' }, updated: { type: 'string' },
    },
};
const database = await createRxDatabase({
    name: 'bench' + process.pid, storage: getRxStorageMemory(), multiInstance: false,
});
const { items } = await database.addCollections({ items: { schema } });

// Documents and bytes handed to the data channels; when the first one was open.
const sent = { bytes: 0, copies: 0, connectedAt: 0 };
const present = new Map();
let pool;

items.storageInstance.changeStream().subscribe((bulk) => {
    const at = performance.timeOrigin + performance.now();
    for (const event of bulk.events) if (!present.has(event.documentId)) present.set(event.documentId, at);
    for (const waiter of [...waiters]) waiter();
});
const waiters = new Set();

function copiesIn(message) {
    if (message.method === 'masterWrite') return message.params[0].length;
    const result = message.result;
    if (result && result.documents) return result.documents.length;
    return 0;
}

const commands = {
    async fill({ file }) {
        await items.bulkInsert(JSON.parse(fs.readFileSync(file, 'utf8')));
    },
    async join({ url, topic, batch }) {
        const creator = getConnectionHandlerSimplePeer({
            signalingServerUrl: url, webSocketConstructor: WebSocket, wrtc: createSimplePeerWrtc(polyfill),
            config: { iceServers: [] },
        });
        pool = await replicateWebRTC({
            collection: items, topic, pull: { batchSize: batch }, push: { batchSize: batch },
            connectionHandlerCreator: async (options) => {
                const handler = await creator(options), send = handler.send.bind(handler);
                handler.send = (peer, message) => {
                    sent.copies += copiesIn(message);
                    if (!peer.isCounted) {
                        peer.isCounted = true;
                        const raw = peer.send.bind(peer);
                        peer.send = (data) => { sent.bytes += Buffer.byteLength(data); return raw(data); };
                    }
                    return send(peer, message);
                };
                handler.connect$.subscribe(() => { sent.connectedAt ||= performance.timeOrigin + performance.now(); });
                return handler;
            },
        });
        pool.error$.subscribe(() => {});
    },
    // When so many documents were here, in milliseconds since the epoch.
    async waitFor({ count }) {
        await new Promise((resolve) => {
            const look = () => { if (present.size >= count) { waiters.delete(look); resolve(); } };
            waiters.add(look);
            look();
        });
        return Math.max(0, ...present.values());
    },
    async links() { return pool.peerStates$.getValue().size; },
    // 'fork' pulls and pushes, 'master' answers: RxDB draws who is which.
    async role() { return [...pool.peerStates$.getValue().values()].map((s) => (s.replicationState ? 'fork' : 'master'))[0]; },
    async sent() { return sent; },
    async insert({ document }) {
        const at = performance.timeOrigin + performance.now();
        await items.insert(document);
        return at;
    },
    async arrivedAt({ id }) { return present.get(id) ?? 0; },
    async cpu() { const used = process.cpuUsage(); return (used.user + used.system) / 1e6; },
};

// One after the other, as the answers carry no number; what waits long is asked last.
for await (const line of readline.createInterface({ input: process.stdin })) {
    const { command, ...rest } = JSON.parse(line);
    try {
        print(JSON.stringify({ result: (await commands[command](rest)) ?? null }));
    } catch (error) {
        print(JSON.stringify({ error: String(error) }));
    }
}
process.exit(0);
