//! Version 1.

mod access;
mod actions;
mod audit;
mod endpoints;
mod enrolment;
mod following;
mod groups;
mod livepcs;

pub use access::*;
pub use actions::*;
pub use audit::*;
pub use endpoints::*;
pub use enrolment::*;
pub use following::*;
pub use groups::*;
pub use livepcs::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Permission::{Act, Administer, Admit, Arrange, Assign, Audit, Invite, Offer, See};
use crate::{Call, Described, Method, Needs};

/// Nothing to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nothing {}

/// Writes down calls: name, method and path, needs, request and answer, summary.
macro_rules! calls {
    ($(
        $name:ident: $method:ident $path:literal, $needs:expr, $request:ty => $answer:ty,
        $summary:literal;
    )*) => {
        $(
            #[doc = $summary]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl Call for $name {
                const METHOD: Method = Method::$method;
                const PATH: &'static str = $path;
                const NEEDS: Needs = $needs;
                const SUMMARY: &'static str = $summary;
                type Request = $request;
                type Answer = $answer;
            }
        )*

        /// All calls of this version.
        pub fn all() -> Vec<Described> {
            vec![$(Described::of::<$name>(stringify!($name))),*]
        }
    };
}

const fn permission(permission: crate::Permission) -> Needs {
    Needs::Permission(permission)
}

calls! {
    GetAuthorities: Get "/v1/authorities", Needs::Nothing, Nothing => Authorities,
        "The certificates of the authorities by which this server and its endpoints are known.";
    Enrol: Post "/v1/enrol", Needs::Nothing, Enrolling => Enrolled,
        "Enrol an endpoint with a code; asking again with the same code and key is the same.";
    ComeBack: Post "/v1/come-back", Needs::Nothing, ComingBack => Enrolled,
        "Get a certificate for an endpoint whose last one has expired, with its key.";
    RenewCertificate: Post "/v1/endpoint/certificate", Needs::Endpoint, Renewing => Enrolled,
        "Get the next certificate.";
    CheckIn: Post "/v1/endpoint/check-in", Needs::Endpoint, CheckingIn => CheckedIn,
        "Say how this endpoint is, and learn what it is to have.";
    AwaitNews: Get "/v1/endpoint/news", Needs::Endpoint, Nothing => News,
        "Wait, for a minute at most, until there is something for this endpoint to do.";

    Begin: Post "/v1/begin", Needs::Nothing, Beginning => NewToken,
        "Become the first administrator, with the code that the server printed.";
    WhoAmI: Get "/v1/me", permission(See), Nothing => Me,
        "Who the caller is.";
    CreateToken: Post "/v1/tokens", permission(Administer), TokenWanted => NewToken,
        "Make a token for somebody; its secret is told once.";
    ListTokens: Get "/v1/tokens", permission(Administer), Nothing => Tokens,
        "The tokens that there are.";
    RevokeToken: Delete "/v1/tokens/{token}", permission(Administer), TokenNamed => Nothing,
        "Make a token good for nothing, from the next call on.";

    CreateGroup: Post "/v1/groups", permission(Arrange), GroupNamed => Nothing,
        "Make a group.";
    ListGroups: Get "/v1/groups", permission(See), Nothing => Groups,
        "The groups, with how many endpoints are in each.";
    DeleteGroup: Delete "/v1/groups/{group}", permission(Arrange), GroupNamed => Nothing,
        "Delete a group in which no endpoint is.";

    CreateCode: Post "/v1/codes", permission(Invite), CodeWanted => NewCode,
        "Make a code with which one endpoint enrols into a group.";

    ListEndpoints: Get "/v1/endpoints", permission(See), EndpointsWanted => Endpoints,
        "Endpoints, by id, a page at a time.";
    GetEndpoint: Get "/v1/endpoints/{endpoint}", permission(See), EndpointNamed => EndpointDetail,
        "One endpoint, with what it last told and what it is to have.";
    ApproveEndpoint: Post "/v1/endpoints/{endpoint}/approve", permission(Admit),
        EndpointNamed => Nothing, "Let in an endpoint that waits for that.";
    QuarantineEndpoint: Post "/v1/endpoints/{endpoint}/quarantine", permission(Admit),
        EndpointBecause => Nothing, "Tell an endpoint nothing more, until it is approved again.";
    RetireEndpoint: Delete "/v1/endpoints/{endpoint}", permission(Admit), EndpointNamed => Nothing,
        "Forget an endpoint: it can come back only with a new code.";
    MoveEndpoint: Put "/v1/endpoints/{endpoint}/group", permission(Arrange),
        EndpointInGroup => Nothing, "Put an endpoint into another group.";
    SendAction: Post "/v1/endpoints/{endpoint}/actions", permission(Act),
        ActionWanted => ActionOrdered, "Have an endpoint do something, once.";
    ListActions: Get "/v1/endpoints/{endpoint}/actions", permission(See),
        EndpointNamed => Actions, "What an endpoint was to do, and what came of it.";

    PutLivePc: Put "/v1/livepcs/{livepc}", permission(Offer), LivePcAt => Nothing,
        "Say where a LivePC is published.";
    ListLivePcs: Get "/v1/livepcs", permission(See), Nothing => LivePcs,
        "The LivePCs, with who gets them.";
    DeleteLivePc: Delete "/v1/livepcs/{livepc}", permission(Offer), LivePcNamed => Nothing,
        "Forget a LivePC that nobody is assigned; endpoints keep what they have.";
    AssignLivePc: Put "/v1/livepcs/{livepc}/assignment", permission(Assign),
        Assignment => Nothing, "Let everybody, a group or an endpoint have a LivePC.";
    UnassignLivePc: Delete "/v1/livepcs/{livepc}/assignment", permission(Assign),
        Assignment => Nothing, "Take an assignment back; endpoints keep what they have.";

    PutAnchor: Put "/v1/anchor", permission(Administer), Anchor => AnchorAdded,
        "Say whose signatures endpoints believe that enrol from now on.";
    ListAudit: Get "/v1/audit", permission(Audit), AuditWanted => AuditPage,
        "The audit log, a page at a time.";
    CheckAudit: Get "/v1/audit/check", permission(Audit), Nothing => AuditChecked,
        "Recompute the chain of the audit log.";
}
