"""Reads a hub with confluent-kafka, kafka-python or aiokafka: consume.py CLIENT list|read|group ..."""

import asyncio
import os
import signal
import ssl
import sys

HUB = os.environ["PEER_HUB"]
CA = os.environ.get("PEER_CA")
USER = os.environ.get("PEER_USER")
PASSWORD = os.environ.get("PEER_PASSWORD")
TOPIC = "telemetry"
SESSION_MS = 6000
stopped = False


def stop(*_):
    global stopped
    stopped = True


def ready():
    print("ready", file=sys.stderr, flush=True)


def emit(partition, offset, value):
    sys.stdout.write(f"{partition} {offset} {value.decode()}\n")


def emit_all(batches):
    """Writes what was polled; how many records that were."""
    count = 0
    for messages in batches.values():
        for message in messages:
            emit(message.partition, message.offset, message.value)
            count += 1
    sys.stdout.flush()
    return count


def settings(mode, arguments):
    """Of both clients that are written in Python; how TLS is set up is their own."""
    config = {
        "bootstrap_servers": HUB,
        "group_id": arguments[0] if mode == "group" else None,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": SESSION_MS,
        "heartbeat_interval_ms": 1000,
    }
    if CA:
        config |= {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": USER,
            "sasl_plain_password": PASSWORD,
        }
    return config


def confluent(mode, arguments):
    from confluent_kafka import Consumer, TopicPartition

    config = {
        "bootstrap.servers": HUB,
        "group.id": arguments[0] if mode == "group" else "none",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 1000,
    }
    if CA:
        config |= {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": CA,
            "sasl.mechanism": "PLAIN",
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }
    consumer = Consumer(config)
    if mode == "list":
        for topic in consumer.list_topics(timeout=10).topics.values():
            print(topic.topic, len(topic.partitions))
        return
    if mode == "read":
        start, left = arguments[0], int(arguments[1])
        partitions = consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
        if start == "start":
            places = [TopicPartition(TOPIC, p, 0) for p in partitions]
        elif start == "end":
            ends = {
                p: consumer.get_watermark_offsets(TopicPartition(TOPIC, p), timeout=10)[1]
                for p in partitions
            }
            places = [TopicPartition(TOPIC, p, end) for p, end in ends.items()]
        else:
            asked = [TopicPartition(TOPIC, p, int(start)) for p in partitions]
            places = consumer.offsets_for_times(asked, timeout=10)
        consumer.assign(places)
        ready()
        while left and not stopped:
            for message in consumer.consume(min(left, 500), 0.2):
                assert message.error() is None, message.error()
                emit(message.partition(), message.offset(), message.value())
                left -= 1
            sys.stdout.flush()
    else:
        consumer.subscribe([TOPIC])
        ready()
        while not stopped:
            messages = [m for m in consumer.consume(200, 0.2) if m.error() is None]
            for message in messages:
                emit(message.partition(), message.offset(), message.value())
            sys.stdout.flush()
            if messages:
                consumer.commit(asynchronous=False)
    consumer.close()


def kafka_python(mode, arguments):
    from kafka import KafkaConsumer, TopicPartition

    config = settings(mode, arguments)
    if CA:
        config["ssl_cafile"] = CA
    consumer = KafkaConsumer(**config)
    if mode == "list":
        for topic in consumer.topics():
            print(topic, len(consumer.partitions_for_topic(topic)))
        return
    left = 0
    if mode == "read":
        start, left = arguments[0], int(arguments[1])
        places = [TopicPartition(TOPIC, p) for p in consumer.partitions_for_topic(TOPIC)]
        consumer.assign(places)
        if start == "start":
            consumer.seek_to_beginning(*places)
        elif start == "end":
            for place, end in consumer.end_offsets(places).items():
                consumer.seek(place, end)
        else:
            for place, found in consumer.offsets_for_times(dict.fromkeys(places, int(start))).items():
                consumer.seek(place, found.offset)
    else:
        consumer.subscribe([TOPIC])
    ready()
    while not stopped and (mode == "group" or left):
        batches = consumer.poll(200, max_records=left or 200)
        left -= emit_all(batches)
        if batches and mode == "group":
            consumer.commit()
            left = 0
    consumer.close()


async def aio(mode, arguments):
    from aiokafka import AIOKafkaConsumer, TopicPartition

    config = settings(mode, arguments)
    if CA:
        config["ssl_context"] = ssl.create_default_context(cafile=CA)
    topics = [TOPIC] if mode == "group" else []
    consumer = AIOKafkaConsumer(*topics, **config)
    await consumer.start()
    try:
        if mode == "list":
            for topic in await consumer.topics():
                await consumer._client.force_metadata_update()
                print(topic, len(consumer.partitions_for_topic(topic) or ()))
            return
        left = 0
        if mode == "read":
            start, left = arguments[0], int(arguments[1])
            consumer._client.add_topic(TOPIC)
            await consumer._client.force_metadata_update()
            places = [TopicPartition(TOPIC, p) for p in consumer.partitions_for_topic(TOPIC)]
            consumer.assign(places)
            if start == "start":
                await consumer.seek_to_beginning(*places)
            elif start == "end":
                for place, end in (await consumer.end_offsets(places)).items():
                    consumer.seek(place, end)
            else:
                found = await consumer.offsets_for_times(dict.fromkeys(places, int(start)))
                for place, at in found.items():
                    consumer.seek(place, at.offset)
        ready()
        while not stopped and (mode == "group" or left):
            batches = await consumer.getmany(timeout_ms=200, max_records=left or 200)
            left -= emit_all(batches)
            if batches and mode == "group":
                await consumer.commit()
                left = 0
    finally:
        await consumer.stop()


signal.signal(signal.SIGTERM, stop)
client, mode, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
if client == "confluent-kafka":
    confluent(mode, arguments)
elif client == "kafka-python":
    kafka_python(mode, arguments)
else:
    asyncio.run(aio(mode, arguments))
