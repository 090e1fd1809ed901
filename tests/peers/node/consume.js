// Reads a hub with KafkaJS: consume.js list|read|group ...
const fs = require("fs");
const path = require("path");
const { Kafka, logLevel } = require(path.join(process.env.PEER_MODULES, "kafkajs"));

const TOPIC = "telemetry";
const [mode, ...rest] = process.argv.slice(2);
const config = { clientId: "kafkajs", brokers: [process.env.PEER_HUB], logLevel: logLevel.ERROR };
if (process.env.PEER_CA) {
  config.ssl = { ca: [fs.readFileSync(process.env.PEER_CA, "utf8")] };
  const { PEER_USER: username, PEER_PASSWORD: password } = process.env;
  config.sasl = { mechanism: "plain", username, password };
  config.retry = { retries: 1 };
}
const kafka = new Kafka(config);
const emit = (partition, message) =>
  fs.writeSync(1, `${partition} ${message.offset} ${message.value}\n`);

async function main() {
  const admin = kafka.admin();
  if (mode === "list") {
    await admin.connect();
    for (const topic of (await admin.fetchTopicMetadata()).topics) {
      console.log(topic.name, topic.partitions.length);
    }
    return admin.disconnect();
  }
  let left = mode === "read" ? Number(rest[1]) : Infinity;
  const groupId = mode === "read" ? `read-${process.pid}` : rest[0];
  const consumer = kafka.consumer({
    groupId,
    sessionTimeout: 6000,
    heartbeatInterval: 1000,
    maxWaitTimeInMs: 200,
    retry: config.retry,
  });
  let starts = [];
  if (mode === "read" && rest[0] !== "start") {
    await admin.connect();
    starts =
      rest[0] === "end"
        ? (await admin.fetchTopicOffsets(TOPIC)).map((p) => ({ ...p, offset: p.high }))
        : await admin.fetchTopicOffsetsByTimestamp(TOPIC, Number(rest[0]));
    await admin.disconnect();
  }
  await consumer.connect();
  const over = async () => {
    await consumer.disconnect();
    process.exit(0);
  };
  process.on("SIGTERM", over);
  await consumer.subscribe({ topics: [TOPIC], fromBeginning: true });
  consumer.on(consumer.events.GROUP_JOIN, () => {
    for (const { partition, offset } of starts) consumer.seek({ topic: TOPIC, partition, offset });
    console.error("ready");
  });
  await consumer.run({
    autoCommitThreshold: 200,
    autoCommitInterval: 200,
    eachMessage: async ({ partition, message }) => {
      if (left <= 0) return;
      emit(partition, message);
      left -= 1;
      if (left === 0) setImmediate(over);
    },
  });
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
