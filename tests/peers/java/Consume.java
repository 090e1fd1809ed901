// Reads a hub with Kafka's own client: Consume list|read|group ...
import java.io.PrintStream;
import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

public class Consume {
    static final String TOPIC = "telemetry";
    static volatile boolean stopped = false;
    static final PrintStream out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false);

    public static void main(String[] arguments) throws Exception {
        String mode = arguments[0];
        Properties config = new Properties();
        config.put("bootstrap.servers", System.getenv("PEER_HUB"));
        if (mode.equals("group")) config.put("group.id", arguments[1]);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        config.put("session.timeout.ms", "6000");
        config.put("heartbeat.interval.ms", "1000");
        config.put("max.poll.records", "200");
        config.put("default.api.timeout.ms", "15000");
        config.put("key.deserializer", StringDeserializer.class.getName());
        config.put("value.deserializer", StringDeserializer.class.getName());
        if (System.getenv("PEER_CA") != null) {
            config.put("security.protocol", "SASL_SSL");
            config.put("ssl.truststore.type", "PEM");
            config.put("ssl.truststore.location", System.getenv("PEER_CA"));
            config.put("sasl.mechanism", "PLAIN");
            config.put("sasl.jaas.config", String.format(
                "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"%s\" password=\"%s\";",
                System.getenv("PEER_USER"), System.getenv("PEER_PASSWORD")));
        }
        KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config);
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopped = true;
            try { main.join(5000); } catch (InterruptedException e) { }
        }));
        if (mode.equals("list")) {
            consumer.listTopics().forEach((topic, partitions) -> System.out.println(topic + " " + partitions.size()));
            consumer.close();
            return;
        }
        long left = Long.MAX_VALUE;
        if (mode.equals("read")) {
            left = Long.parseLong(arguments[2]);
            List<TopicPartition> places = consumer.partitionsFor(TOPIC).stream()
                .map(p -> new TopicPartition(TOPIC, p.partition())).collect(Collectors.toList());
            consumer.assign(places);
            switch (arguments[1]) {
                case "start": consumer.seekToBeginning(places); break;
                case "end": consumer.endOffsets(places).forEach(consumer::seek); break;
                default:
                    long time = Long.parseLong(arguments[1]);
                    Map<TopicPartition, Long> asked = new HashMap<>();
                    places.forEach(place -> asked.put(place, time));
                    consumer.offsetsForTimes(asked).forEach((place, found) -> consumer.seek(place, found.offset()));
            }
        } else {
            consumer.subscribe(List.of(TOPIC));
        }
        System.err.println("ready");
        while (!stopped && left > 0) {
            ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
            for (ConsumerRecord<String, String> record : records) {
                if (left-- <= 0) break;
                out.println(record.partition() + " " + record.offset() + " " + record.value());
            }
            out.flush();
            if (!records.isEmpty() && mode.equals("group")) consumer.commitSync();
        }
        consumer.close();
    }
}
