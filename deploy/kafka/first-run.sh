#!/usr/bin/env bash
# What a new Kafka needs before the first event: topics, the proxies' user with its rights, and limits for users that have none of their own.
# May run again at any time: what is there stays as it is, the password becomes that of the file.
#
#   first-run.sh BROKERS SECRETS TOPICS
#
# BROKERS is host:port of one or more; SECRETS the folder with the files kafka-admin and kafka-proxy; TOPICS a file with a topic a line.
# The environment says how the brokers are reached: KAFKA_PROTOCOL is SASL_PLAINTEXT (the default) or SASL_SSL, and then KAFKA_CA a PEM
# file of their authority, where that is none of those that Java trusts. The login is `admin` by PLAIN, as in broker.properties.
# Kafka's own tools must be on the path, or in /opt/kafka/bin as in its image.
set -euo pipefail

brokers=$1 secrets=$2 topics=$3
protocol=${KAFKA_PROTOCOL:-SASL_PLAINTEXT}
case $protocol in
SASL_PLAINTEXT | SASL_SSL) ;;
*) echo "error: KAFKA_PROTOCOL is $protocol; it must be SASL_PLAINTEXT or SASL_SSL" >&2 && exit 64 ;;
esac
PATH=$PATH:/opt/kafka/bin

# Passwords are on disk for as long as this runs: the tools take them from there, and on a command line everybody would see them.
private=$(mktemp -d)
trap 'rm -rf "$private"' EXIT
login=$private/login user=$private/user
umask 077
cat >"$login" <<END
security.protocol=$protocol
sasl.mechanism=PLAIN
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="$(cat "$secrets/kafka-admin")";
END
if [ -n "${KAFKA_CA:-}" ]; then printf 'ssl.truststore.type=PEM\nssl.truststore.location=%s\n' "$(realpath "$KAFKA_CA")" >>"$login"; fi
as_admin=(--bootstrap-server "$brokers" --command-config "$login")

echo "limits of users that have none of their own"
kafka-configs.sh "${as_admin[@]}" --alter --entity-type users --entity-default \
    --add-config 'producer_byte_rate=10485760,consumer_byte_rate=20971520,request_percentage=100'

echo "the proxies' user: may write every topic, and is hardly limited, since the proxies limit senders themselves"
echo "SCRAM-SHA-512=iterations=8192,password=$(cat "$secrets/kafka-proxy")" >"$user"
kafka-configs.sh "${as_admin[@]}" --alter --entity-type users --entity-name iguazu-proxy --add-config-file "$user"
kafka-configs.sh "${as_admin[@]}" --alter --entity-type users --entity-name iguazu-proxy \
    --add-config 'producer_byte_rate=10737418240,request_percentage=10000'
kafka-acls.sh "${as_admin[@]}" --add --allow-principal User:iguazu-proxy --operation Write --operation Describe --topic '*'
kafka-acls.sh "${as_admin[@]}" --add --allow-principal User:iguazu-proxy --operation IdempotentWrite --cluster

while read -r name partitions replicas in_sync retention_ms; do
    case $name in '' | '#'*) continue ;; esac
    echo "topic $name"
    kafka-topics.sh "${as_admin[@]}" --create --if-not-exists --topic "$name" --partitions "$partitions" \
        --replication-factor "$replicas" --config "min.insync.replicas=$in_sync" --config "retention.ms=$retention_ms"
done <"$topics"
