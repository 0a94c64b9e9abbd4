# The policy of fleet.py for Open Policy Agent; `data.policy` holds what the seed drew.
package gate

decision := {
	"effect": effect,
	"reasons": sort([r | some r in reasons]),
	"policy_version": data.policy.version,
}

effect := "deny" if count(refusals) > 0

effect := "step_up" if {
	count(refusals) == 0
	count(wants) > 0
}

effect := "allow" if {
	count(refusals) == 0
	count(wants) == 0
}

reasons := refusals if effect == "deny"

reasons := wants if effect == "step_up"

reasons := {"granted"} if effect == "allow"

scope := sprintf("%s:%s", [input.server.name, input.tool.action_class])

refusals contains "user_suspended" if input.user.id in data.policy.suspended

refusals contains "chain_too_long" if count(input.agent.chain) > data.policy.depth_max

refusals contains "tool_not_granted" if not input.tool.name in data.policy.grants[input.agent.kind]

refusals contains "scope_missing" if not scope in split(input.token.claims.scope, " ")

wants contains "mfa" if {
	input.tool.action_class in data.policy.risky
	input.token.claims.acr != "mfa"
}

wants contains "approval" if {
	input.params.amount > data.policy.amount_max
	not input.context.approved
}
