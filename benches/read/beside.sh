#!/bin/bash
# The same read at three servers on this machine, one after the other and in turns: all events of one partition, by one client.
#   beside.sh SEDGE NATS_BIN KAFKA_LIB [EVENTS] [ROUNDS]
# SEDGE: the program. NATS_BIN: a folder with nats-server and nats (`go install` of nats-server/v2 and natscli). KAFKA_LIB: a folder with the jars of kafka_2.13,
# kafka-tools and slf4j-simple (`mvn dependency:copy-dependencies`). kcat comes from Debian. Everything listens on loopback and works in a folder that goes at the end.
set -euo pipefail
sedge=$(realpath "$1") nats=$(realpath "$2") jars=$(realpath "$3") events=${4:-2000000} rounds=${5:-5}
here=$(mktemp -d)
out=$(mktemp -p /dev/shm) # what is read is written into memory
started=()
finish() {
    for one in "${started[@]}"; do kill "$one" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$here" "$out"
}
trap finish EXIT
within() { # SECONDS COMMAND...: until it succeeds
    local until=$((SECONDS + $1)); shift
    while ! "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || { echo "not in time: $*" >&2; exit 1; }
        sleep 0.2
    done
}
open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
rss() { awk '/VmHWM/ {print int($2 / 1024)}' "/proc/$1/status"; }
busy() { awk '{print $14 + $15}' "/proc/$1/stat"; } # in ticks of 10 ms

# Lines of 128 bytes.
awk -v n="$events" 'BEGIN { for (i = 0; i < n; i++) printf "%010d%0118d\n", i, 7 }' > "$here/lines"

cat > "$here/hub.toml" <<EOF
[hub]
data_dir = "$here/hub"
listen = "127.0.0.1:17443"
http = "127.0.0.1:17480"
kafka = "127.0.0.1:17092"
EOF
cat > "$here/agent.toml" <<EOF
[gateway]
id = "bench"
data_dir = "$here/agent"
http = "off"
[[source]]
type = "mqtt-listen"
name = "direct"
listen = "127.0.0.1:17883"
stream = "telemetry"
[[stream]]
name = "telemetry"
capacity = "1GiB"
[[uplink]]
name = "hq"
url = "sedge://127.0.0.1:17443"
EOF
"$sedge" hub --config "$here/hub.toml" > "$here/hub.log" 2>&1 & hub=$!; started+=($hub)
"$sedge" agent --config "$here/agent.toml" > "$here/agent.log" 2>&1 & agent=$!; started+=($agent)
within 20 open 17443
within 20 open 17883
"$sedge" push telemetry --config "$here/agent.toml" < "$here/lines"
has_all() { curl -s 127.0.0.1:17480/v1/streams | grep -q "\"end\":$events[,}]"; }
within 300 has_all
kill $agent

cat > "$here/kafka.properties" <<EOF
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:18092,CONTROLLER://127.0.0.1:18093
advertised.listeners=PLAINTEXT://127.0.0.1:18092
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:18093
log.dirs=$here/kafka
offsets.topic.replication.factor=1
num.partitions=1
EOF
java -cp "$jars/*" kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg -c "$here/kafka.properties" --standalone > "$here/kafka.log" 2>&1
java -Xmx512m -cp "$jars/*" kafka.Kafka "$here/kafka.properties" >> "$here/kafka.log" 2>&1 & kafka=$!; started+=($kafka)
within 60 kcat -b 127.0.0.1:18092 -L
kcat -b 127.0.0.1:18092 -P -t telemetry -l "$here/lines" 2>/dev/null

"$nats/nats-server" -a 127.0.0.1 -p 18222 -js -sd "$here/nats" > "$here/nats.log" 2>&1 & natsd=$!; started+=($natsd)
within 20 open 18222
"$nats/nats" -s nats://127.0.0.1:18222 bench js pub async --create --storage file --size 128B --msgs "$events" --maxbytes 4GB --no-progress --batch 500 telemetry > "$here/fill.log" 2>&1 || { cat "$here/fill.log" >&2; exit 1; }

took() { # PID COMMAND...: seconds, and those of the server's processor
    local pid=$1 from to before after; shift
    before=$(busy "$pid"); from=$(date +%s%N)
    "$@"
    to=$(date +%s%N); after=$(busy "$pid")
    echo "$(((to - from) / 1000000)) $(((after - before) * 10))"
}
read_kafka() { kcat -b "127.0.0.1:$1" -C -t telemetry -o beginning -e -q -X fetch.wait.max.ms=10 > "$out"; }
read_http() {
    python3 - "$events" <<'EOF'
import http.client, sys
want, at, seen = int(sys.argv[1]), 0, 0
door = http.client.HTTPConnection("127.0.0.1", 17480)
while seen < want:
    door.request("GET", f"/v1/streams/telemetry/0/records?from={at}&max=100000&bytes=1048576")
    answer = door.getresponse()
    seen += answer.read().count(b"\n")
    at = answer.headers["sedge-next-offset"]
EOF
}
read_nats() { "$nats/nats" -s nats://127.0.0.1:18222 bench js ordered --msgs "$events" --size 128B --no-progress > "$here/nats-read.log" 2>&1 || { cat "$here/nats-read.log" >&2; exit 1; }; }
echo "server client wall_ms server_cpu_ms"
for _ in $(seq "$rounds"); do
    echo "hub kcat $(took $hub read_kafka 17092)"
    echo "kafka kcat $(took $kafka read_kafka 18092)"
    echo "nats nats-bench $(took $natsd read_nats)"
    echo "hub http $(took $hub read_http)"
done
[ "$(wc -l < "$out")" = "$events" ] || { echo "kcat read $(wc -l < "$out") of $events" >&2; exit 1; }
echo "RSS at most, MiB: hub $(rss $hub), kafka $(rss $kafka), nats-server $(rss $natsd)"
echo "on the disk, MiB: hub $(du -sm "$here/hub" | cut -f1), kafka $(du -sm "$here/kafka" | cut -f1), nats-server $(du -sm "$here/nats" | cut -f1)"
