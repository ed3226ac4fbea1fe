#!/usr/bin/env bash
# An authority of one's own and a certificate for a host name, for trying: examples/tls/certificate.sh FOLDER HOST...
# Writes ca.pem (give it to clients), ca.key (keep it) and server.pem (certificate and key, for the proxy).
set -euo pipefail
folder=$1
shift
umask 077
mkdir -p "$folder"
cd "$folder"
names=""
for host in "$@"; do
  if [[ $host =~ ^[0-9.]+$|: ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=serve-graph test authority" \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem 2> /dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout server.key -out server.csr 2> /dev/null
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 90 -out server.crt 2> /dev/null \
  -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n' "${names#,}")
cat server.crt server.key > server.pem
chmod 644 ca.pem
