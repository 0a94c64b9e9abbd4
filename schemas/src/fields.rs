//! The table of event fields: every column of `records`, and for those that a native event has, member, type, leaf id and meaning.
//!
//! Guarantee: what handles the fields of an event one by one is generated from this table: the structs of [`crate::event`],
//! [`crate::table::Field`], the wire types and their JSON Schema, the JSON writer, the walk over columns, arbitrary events and,
//! in the decoder, the native reader, the slots of mappings and the walk of redaction rules. A new field is one row here, and
//! then the files that tests compare: `schemas/event/v1.json` and `docs/native-event.md` (`UPDATE=1 cargo test -p catena-schemas`).
//!
//! # Rows
//!
//! ```text
//! /// Meaning: one text for the struct, the JSON Schema, the column and the docs.
//! http_path: text "path" => HttpPath "http_path" Text 87, slot HttpPath;
//! |          |    |         |        |           |    |   |
//! |          |    |         |        |           |    |   name in `Slot`, if a mapping can fill the field
//! |          |    |         |        |           |    leaf id; 250 is personal
//! |          |    |         |        |           storage, see `table::Kind`
//! |          |    |         |        column of `records`
//! |          |    |         name in `table::Field`
//! |          |    member of the JSON object
//! |          how the member is read and kept
//! field of the struct
//! ```
//!
//! | how | JSON | in the event |
//! |---|---|---|
//! | `text` | string | text |
//! | `scalar` | string, number or boolean (type *id*) | text, as it was written |
//! | `digest`, `digests` | as `scalar`, `texts` | keyed digest, unless it is one already |
//! | `texts` | strings, or one string | list |
//! | `scopes` | as `texts`; one string is split at spaces | list |
//! | `int`, `long` | integer of 32 or 64 bits | integer |
//! | `time` | RFC 3339 or a number since the epoch | instant |
//! | `basis`, `enforced`, `phase` | word of the vocabulary | enum |
//! | `json`, `array`, `challenge` | any value, a list, the object of a step-up | JSON text, redacted |
//!
//! # Order
//!
//! Rows stand in the order of the columns, which is the ascending order of leaf ids, apart from personal columns. Add a field at the end
//! of its group, with a free leaf id above the ones before it. Columns of older files then have other positions, which is
//! allowed: every reader finds columns by name. A released row keeps its member, column, storage and leaf id.

/// Calls a macro with the fields, in one of three views:
///
/// - `columns`: each column of `records`, in order: `#[doc] Variant "name" Kind leaf,`
/// - `groups`: the structs of an event and their fields:
///   `#[doc] call: Call { #[doc] http_path: text [http "path"] => HttpPath, slot HttpPath; }`
/// - `objects`: the table as it is written, with the JSON objects inside a group.
#[macro_export]
macro_rules! event_fields {
    (objects $callback:ident) => {
        $crate::event_table! { [$callback] }
    };
    ($view:ident $callback:ident) => {
        $crate::event_table! { [$crate::event_fields_as] $view $callback }
    };
}

/// Brings the table into a view for [`event_fields!`].
#[doc(hidden)]
#[macro_export]
macro_rules! event_fields_as {
    (columns $callback:ident $(
        columns { $($column:tt)* }
        $(
            $(#[doc = $group_doc:literal])+
            $group:ident: $Group:ident { $(
                members { $(
                    $(#[doc = $doc:literal])+
                    $field:ident: $how:ident $member:literal => $variant:ident $name:literal $kind:ident $leaf:literal $(, slot $slot:ident)?;
                )* }
                $(
                    $(#[doc = $object_doc:literal])+
                    object $object:ident: $Object:ident { $(
                        $(#[doc = $inner_doc:literal])+
                        $inner:ident: $inner_how:ident $inner_member:literal
                            => $inner_variant:ident $inner_name:literal $inner_kind:ident $inner_leaf:literal $(, slot $inner_slot:ident)?;
                    )* }
                )?
            )+ }
        )*
    )+) => {
        $callback! { $(
            $($column)*
            $($(
                $($(#[doc = $doc])+ $variant $name $kind $leaf,)*
                $($($(#[doc = $inner_doc])+ $inner_variant $inner_name $inner_kind $inner_leaf,)*)?
            )+)*
        )+ }
    };
    (groups $callback:ident $(
        columns { $($column:tt)* }
        $(
            $(#[doc = $group_doc:literal])+
            $group:ident: $Group:ident { $(
                members { $(
                    $(#[doc = $doc:literal])+
                    $field:ident: $how:ident $member:literal => $variant:ident $name:literal $kind:ident $leaf:literal $(, slot $slot:ident)?;
                )* }
                $(
                    $(#[doc = $object_doc:literal])+
                    object $object:ident: $Object:ident { $(
                        $(#[doc = $inner_doc:literal])+
                        $inner:ident: $inner_how:ident $inner_member:literal
                            => $inner_variant:ident $inner_name:literal $inner_kind:ident $inner_leaf:literal $(, slot $inner_slot:ident)?;
                    )* }
                )?
            )+ }
        )*
    )+) => {
        $callback! { $($(
            $(#[doc = $group_doc])+
            $group: $Group { $(
                $($(#[doc = $doc])+ $field: $how [$member] => $variant $(, slot $slot)?;)*
                $($($(#[doc = $inner_doc])+ $inner: $inner_how [$object $inner_member] => $inner_variant $(, slot $inner_slot)?;)*)?
            )+ }
        )*)+ }
    };
}

/// The table; [`event_fields!`] is the way to it.
#[doc(hidden)]
#[macro_export]
macro_rules! event_table {
    ([$($macro:tt)*] $($first:tt)*) => { $($macro)*! { $($first)*
        columns {
            /// Id of the decision, unique within tenant and source.
            EventId "event_id" Id 2,
            /// When it was decided, by the source's clock.
            Time "time" Time 3,
            /// Where it was read from: Kafka topic, intake log or file.
            Topic "topic" Text 4,
            /// Partition of the topic.
            Partition "partition" Int 5,
            /// Offset in the partition; for files, the byte at which the record starts.
            Offset "offset" Long 6,
            /// allow, deny, step_up, error or unknown.
            Outcome "outcome" Text 7,
            /// Version of the redaction policy that the row went through.
            Redaction "redaction" Text 9,
            /// Which decision of its record, from 0. Of a rejection which of those of its record; the first has none.
            DecisionIndex "decision_index" Int 10,
            /// Version of the leaf encoding.
            LeafVersion "leaf_version" Int 11,
            /// Decoder that read the record.
            Format "format" Text 20,
        }

        /// Where the record came from.
        source: Source { members {
            /// Kind of producer: `catena`, `opa`, `cerbos`, `envoy` ...
            kind: text "kind" => SourceKind "source_kind" Text 21;
            /// Which instance of the producer.
            instance: text "instance" => Source "source" Text 22, slot SourceInstance;
            /// Number of the record within instance and epoch, without gaps: a gap shows that a record is missing.
            seq: long "seq" => SourceSeq "source_seq" Long 23;
            /// Restart marker: it changes with each restart, and `seq` starts again.
            epoch: scalar "epoch" => SourceEpoch "source_epoch" Text 24;
            /// The producer's own id of the record, if it is not `id`; the same for every decision of one record.
            record: text "record" => SourceRecord "source_record" Id 25, slot SourceRecord;
        } }

        columns {
            /// How many decisions the record holds, if more than one.
            DecisionCount "decision_count" Int 26,
        }

        /// What was decided, by which policy.
        decision: Decision {
            members {
                /// `explicit`: the producer says the verdict; `inferred`: it was worked out, for instance from an HTTP status.
                basis: basis "basis" => Basis "basis" Text 30;
                /// What the enforcement point did with the call: `forwarded`, `blocked`, `held`, `modified`, `none` (dry run, advice) or
                /// `unknown`.
                enforced: enforced "enforced" => Enforced "enforced" Text 31, slot Enforced;
                /// Which moment it belongs to: `invoke`, `list`, `token_issue`, `token_exchange`, `session`, `approval` or `plan`.
                phase: phase "phase" => Phase "phase" Text 32, slot Phase;
            }
            /// The policy that decided.
            object policy: Policy {
                /// Policy engine: `opa`, `cerbos`, `cedar` ...
                policy_engine: text "engine" => PolicyEngine "policy_engine" Text 33, slot PolicyEngine;
                /// Policy, rule path or resource policy.
                policy_id: text "id" => PolicyId "policy_id" Text 34, slot PolicyId;
                /// Bundle revision, git hash or route checksum.
                policy_version: scalar "version" => PolicyVersion "policy_version" Text 35, slot PolicyVersion;
                /// Digest of the policy's text, as `algorithm:hex`.
                policy_digest: text "digest" => PolicyDigest "policy_digest" Text 36, slot PolicyDigest;
                /// Rules that determined the verdict.
                rules: texts "rules" => PolicyRules "policy_rules" List 37, slot Rules;
            }
            members {
                /// Reason codes, such as `scope_missing`.
                reasons: texts "reasons" => Reasons "reasons" List 38, slot Reasons;
                /// What the policy asks the enforcement point to do besides.
                obligations: array "obligations" => Obligations "obligations" Json 39, slot Obligations;
                /// What a step-up asks for: `id`, `kind` (`insufficient_scope`, `user_authentication`, `device_authentication`), `scope`,
                /// `acr`, `max_age` in seconds (RFC 6750, RFC 9470).
                challenge: challenge "challenge" => Challenge "challenge" Json 40, slot Challenge;
            }
        }

        /// On whose behalf: the root of the delegation.
        requester: Requester { members {
            /// Stable id of the party on whose behalf the chain acts. Personal: enters the evidence only as a salted commitment.
            id: scalar "id" => Requester "requester" Text 250, slot RequesterId;
            /// E-mail address, if apart from the id. Personal.
            email: text "email" => RequesterEmail "requester_email" Text 250, slot RequesterEmail;
            /// Who issued the id: a URL (`iss` of RFC 7519).
            issuer: text "issuer" => RequesterIssuer "requester_issuer" Text 43, slot RequesterIssuer;
            /// `human`, `service` ...
            kind: text "kind" => RequesterKind "requester_kind" Text 44, slot RequesterKind;
            /// `verified` (a signature was checked), `asserted` (a trusted party says so), `inferred` or `absent`.
            assurance: text "assurance" => RequesterAssurance "requester_assurance" Text 45, slot RequesterAssurance;
            /// Roles or groups.
            roles: texts "roles" => RequesterRoles "requester_roles" List 46, slot RequesterRoles;
        } }

        columns {
            /// The last actor: the one that made the call.
            Agent "agent" Text 50,
            /// Ids, root first.
            Actors "actors" List 51,
            /// client, agent, workload or bot, beside `actors`; empty where unknown.
            ActorKinds "actor_kinds" List 52,
            /// verified, asserted, inferred or absent, beside `actors`; empty where unknown.
            ActorAssurance "actor_assurance" List 53,
            /// JSON array beside `actors`: issuer, name, version, model.
            ActorDetails "actor_details" Json 54,
            /// act_claim, exchange, trace, impersonation, declared or inferred.
            ActorsSource "actors_source" Text 55,
            /// Whether the source vouches that no actor is missing.
            ActorsComplete "actors_complete" Bool 56,
        }

        /// What groups calls.
        session: Session { members {
            /// Session, as the producer keys it.
            id: scalar "id" => Session "session" Text 60, slot SessionId;
            /// Agent run.
            run: scalar "run" => Run "run" Text 61, slot SessionRun;
            /// Conversation.
            conversation: scalar "conversation" => Conversation "conversation" Text 62, slot SessionConversation;
            /// `Mcp-Session-Id`; never a key by itself.
            mcp: scalar "mcp" => McpSession "mcp_session" Text 63, slot SessionMcp;
            /// Task (A2A, MCP tasks).
            task: scalar "task" => Task "task" Text 64, slot SessionTask;
        } }

        /// The tool server.
        server: Server { members {
            /// Stable id; its canonical URL where there is one (RFC 8707).
            id: text "id" => Server "server" Text 70, slot ServerId;
            /// Name of the server, if apart from the id.
            name: text "name" => ServerName "server_name" Text 71, slot ServerName;
        } }

        /// The tool.
        tool: Tool { members {
            /// Name within its server.
            name: text "name" => Tool "tool" Text 72, slot ToolName;
            /// `read`, `query`, `update`, `admin`, or the producer's own class.
            action: text "action" => Action "action" Text 73, slot ToolAction;
            /// Class of the data that it touches, such as `pii`.
            data_class: text "data_class" => DataClass "data_class" Text 74, slot ToolDataClass;
            /// What a misuse would cost, from 0 (nothing) to 5.
            impact: int "impact" => Impact "impact" Int 75;
            /// Digest of the tool's definition as the caller saw it, as `algorithm:hex`.
            definition_digest: text "definition_digest" => DefinitionDigest "definition_digest" Text 76;
        } }

        /// The call itself.
        call: Call {
            members {
                /// `mcp`, `a2a`, `http` ...
                protocol: text "protocol" => Protocol "protocol" Text 80, slot Protocol;
                /// Revision of the protocol, such as `2026-07-28`.
                protocol_version: text "protocol_version" => ProtocolVersion "protocol_version" Text 81, slot ProtocolVersion;
                /// JSON-RPC method.
                method: text "method" => Method "method" Text 82, slot Method;
                /// JSON-RPC id.
                jsonrpc_id: scalar "jsonrpc_id" => JsonrpcId "jsonrpc_id" Text 83, slot JsonrpcId;
                /// JSON-RPC error code.
                jsonrpc_error: long "jsonrpc_error" => JsonrpcError "jsonrpc_error" Long 84, slot JsonrpcError;
            }
            /// The HTTP request that a call came in.
            object http: Http {
                /// HTTP verb.
                http_method: text "method" => HttpMethod "http_method" Text 85, slot HttpMethod;
                /// HTTP authority: host, and port if it is not the usual one.
                http_host: text "host" => HttpHost "http_host" Text 86, slot HttpHost;
                /// HTTP path.
                http_path: text "path" => HttpPath "http_path" Text 87, slot HttpPath;
                /// HTTP status of the response.
                http_status: int "status" => HttpStatus "http_status" Int 88, slot HttpStatus;
            }
            members {
                /// Arguments, of any shape. Redacted before they are stored. Personal.
                params: json "params" => Params "params" Json 250, slot Params;
                /// Digest of the arguments before redaction: `hmac:` and hex is kept, anything else is digested with the tenant's key.
                params_digest: digest "params_digest" => ParamsDigest "params_digest" Id 91;
                /// What it touched, as `kind:id`.
                resources: texts "resources" => Resources "resources" List 92, slot Resources;
                /// Where data went.
                destination: text "destination" => Destination "destination" Text 93, slot Destination;
                /// Handles that the call consumed. Stored as keyed digests.
                handles_in: digests "handles_in" => HandlesIn "handles_in" List 94;
                /// Handles that the call produced. Stored as keyed digests.
                handles_out: digests "handles_out" => HandlesOut "handles_out" List 95;
                /// Request state before. Stored as a keyed digest.
                state_in: digest "state_in" => StateIn "state_in" Text 96;
                /// Request state after. Stored as a keyed digest.
                state_out: digest "state_out" => StateOut "state_out" Text 97;
            }
            /// What came back from a call.
            object result: CallResult {
                /// Trust in the result: `trusted`, `untrusted` or `sensitive`.
                result_class: text "class" => ResultClass "result_class" Text 98;
                /// Size of the result in bytes.
                result_bytes: long "bytes" => ResultBytes "result_bytes" Long 99, slot ResultBytes;
            }
        }

        /// Claims of the token presented. The token itself is never kept.
        token: Token { members {
            /// `hmac:` and hex of a keyed digest of the token or its `jti`, never the token. Anything else is digested when it is read.
            reference: digest "ref" => TokenRef "token_ref" Text 110, slot TokenReference;
            /// What was done to believe it: `verified`, `introspected` (RFC 7662), `parsed`, `opaque` or `none`.
            proof: text "proof" => TokenProof "token_proof" Text 111, slot TokenProof;
            /// `iss` (RFC 7519).
            issuer: text "issuer" => TokenIssuer "token_issuer" Text 112, slot TokenIssuer;
            /// `sub`. Personal.
            subject: scalar "subject" => TokenSubject "token_subject" Text 250, slot TokenSubject;
            /// `client_id` (RFC 8693) or `azp`.
            client_id: scalar "client_id" => TokenClient "token_client" Text 114, slot TokenClient;
            /// `aud`.
            audience: texts "audience" => Audience "audience" List 115, slot TokenAudience;
            /// Resource indicators (RFC 8707).
            resource: texts "resource" => TokenResource "token_resource" List 116;
            /// Scopes, as a list or as one text with spaces (RFC 6749, section 3.3).
            scope: scopes "scope" => Scopes "scopes" List 117, slot TokenScope;
            /// `iat`.
            issued_at: time "issued_at" => TokenIssued "token_issued" Time 118;
            /// `exp`.
            expires_at: time "expires_at" => TokenExpires "token_expires" Time 119;
            /// `auth_time`: when the person last authenticated.
            auth_time: time "auth_time" => TokenAuthTime "token_auth_time" Time 120;
            /// `acr`: how the person authenticated.
            acr: text "acr" => TokenAcr "token_acr" Text 121;
            /// Thumbprint of the key that the token is bound to (RFC 7800, RFC 9449).
            cnf: text "cnf" => TokenCnf "token_cnf" Text 122;
            /// Transaction (`txn`, RFC 8417).
            txn: text "txn" => TokenTxn "token_txn" Text 123;
            /// Workflow id shared by the tokens of one chain (`acti`). Stored as a keyed digest.
            acti: digest "acti" => TokenActi "token_acti" Text 124;
            /// `ref` of the token that this one was exchanged from.
            parent_reference: digest "parent_ref" => TokenParentRef "token_parent_ref" Text 125;
        } }

        /// The grant that allowed the call.
        grant: Grant { members {
            /// Id of the grant or consent that the source says allowed it.
            id: text "id" => GrantId "grant_id" Text 130, slot GrantId;
        } }

        /// Ids that tie a decision to others.
        links: Links { members {
            /// `id` of the decision that led to this one: the best link there is.
            parent_decision: text "parent_decision" => ParentDecision "parent_decision" Id 140, slot ParentDecision;
            /// Who says so: `gateway` or `client`.
            parent_origin: text "parent_origin" => ParentOrigin "parent_origin" Text 141, slot ParentOrigin;
            /// Trace id, 32 hex digits (W3C Trace Context).
            trace: text "trace" => TraceId "trace_id" Text 142, slot Trace;
            /// Span id, 16 hex digits.
            span: text "span" => SpanId "span_id" Id 143, slot Span;
            /// Span id of the parent.
            parent_span: text "parent_span" => ParentSpanId "parent_span_id" Id 144, slot ParentSpan;
            /// Trace id of the HTTP request, if apart from `trace`.
            http_trace: text "http_trace" => HttpTrace "http_trace" Text 145, slot HttpTrace;
            /// Request id.
            request: scalar "request" => RequestId "request_id" Id 146, slot Request;
        } }

        /// The caller's surroundings.
        network: Network { members {
            /// Address of the caller. Personal.
            ip: text "ip" => Ip "ip" Text 250, slot Ip;
            /// User agent.
            user_agent: text "user_agent" => UserAgent "user_agent" Text 151, slot UserAgent;
            /// SPIFFE id.
            spiffe: text "spiffe" => Spiffe "spiffe" Text 152, slot Spiffe;
        } }

        columns {
            /// JSON object: everything else the record held, redacted.
            Extra "extra" Json 160,
            /// What was odd but kept.
            Flags "flags" List 161,
            /// Why it is a rejection or an aside.
            Reason "reject_reason" Text 170,
            /// Detail for people.
            ReasonDetail "reject_detail" Text 171,
            /// Bytes of a rejected record, redacted; at most 1 MiB.
            Raw "raw" Bytes 172,
            /// When it arrived, by the collector's clock.
            IngestTime "ingest_time" Time 0,
            /// True when the same record with the same content was already there.
            Duplicate "duplicate" Bool 0,
            /// execution, or the kind of a record of authority; empty for decisions, rejections and asides.
            Kind "kind" Text 12,
            /// Of a record of authority: its fields, as JSON under the names of its table's columns. Personal.
            Body "body" Json 250,
        }
    } };
}
