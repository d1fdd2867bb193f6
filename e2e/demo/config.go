package main

// The two files of the demo. relay.yaml stands in the cloud, agent.yaml in the data centre; neither holds a secret.

const relayYAML = `listen: {relay}
ops: {relay_ops}
control: {dir}/relay.sock
state_dir: {dir}/relay.state
identity:
  svid: {cert: relay.crt, key: relay.key}
trust:
  cloud.example: {bundle: cloud.pem}
  dc1.example: {bundle: dc1.pem}
tokens:
  - issuer: https://idp.example
    audiences: [fairlead]
    jwks: idp.jwks.json
    algorithms: [ES256]
tunnels:
  - name: orders
    protocol: http
    hosts: [orders.dc1.example]
    agents: [spiffe://dc1.example/agent/*]
    callers: [spiffe://cloud.example/api/*]
    token: {issuer: https://idp.example, scopes: [orders.read]}
    allow: request.method == "GET" || "orders.write" in token.scopes
  - name: ledger
    protocol: tcp
    hosts: [ledger.dc1.example]
    agents: [spiffe://dc1.example/agent/*]
    callers: [spiffe://cloud.example/api/*]
    token: {issuer: https://idp.example, scopes: [orders.read]}
`

const agentYAML = `name: dc1-a
relays: [{relay}]
relay_id: [spiffe://cloud.example/relay/*]
ops: {agent_ops}
control: {dir}/agent.sock
state_dir: {dir}/agent.state
identity:
  svid: {cert: agent.crt, key: agent.key}
trust:
  cloud.example: {bundle: cloud.pem}
tunnels:
  - name: orders
    backend: http://{orders}
    allow: {methods: [GET, POST], paths: [/v1/orders, /v1/orders/**]}
  - name: ledger
    backend: tcp://{ledger}
    callers: [spiffe://cloud.example/api/*]
`
