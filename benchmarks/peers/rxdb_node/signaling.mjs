// RxDB's own signaling server on a free port, which it prints.
import { startSignalingServerSimplePeer } from 'rxdb/plugins/replication-webrtc';

const print = console.log;
console.log = () => {};
const { server } = await startSignalingServerSimplePeer({ port: 0, host: '127.0.0.1' });
if (!server.address()) await new Promise((resolve) => server.on('listening', resolve));
print(server.address().port);
process.stdin.on('end', () => process.exit(0)).resume();
