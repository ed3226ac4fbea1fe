// Reads objects as a JSON list; prints what is wrong with each as a list of {name, fault}, and how many were looked at.
import { readFileSync } from "node:fs";
import { Gateway, HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import { PodMonitor, PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const kinds = { Gateway, HTTPRoute, PodMonitor, PrometheusRule };
const objects = JSON.parse(readFileSync(0, "utf8")).filter((each) => each.kind in kinds);
const faults = [];
for (const each of objects) {
  try {
    new kinds[each.kind](each).validate();
  } catch (error) {
    faults.push({ name: `${each.kind}/${each.metadata.name}`, fault: error.message });
  }
}
console.log(JSON.stringify({ seen: objects.length, faults }));
