//! In which order the single exchanges were recorded, and what happened in between that was not.

/// What happens next.
pub(crate) enum Step {
    /// Recorded exchanges, in this order.
    Say(&'static [&'static str]),
    /// A launch that was not recorded: the template, its variables, and the id that the job had.
    Launch(&'static str, &'static str, u64),
    /// The playbook of the job with this recorded id begins.
    Begin(u64),
    /// The job with this recorded id comes to its end.
    End(u64),
    /// The project's folder is gone, or there again.
    Project(bool),
    /// A job template's timeout.
    Timeout(&'static str, u32),
    /// The worker is told to shut down.
    Kill,
}

use Step::{Begin, End, Kill, Launch, Project, Say, Timeout};

/// The one long recording, in its order.
pub(crate) const STORY: &[Step] = &[
    Say(&[
        "root-api", "root-api-bad-token", "root-v2", "root-v2-anon", "root-v2-bad-token", "ping-anon", "ping-bad-token",
        "config-anon", "me-anon-401", "me-bad-password-401", "me-bad-token-401", "me-basic", "me-unknown-auth-scheme-401",
        "token-create-v2-tokens", "token-create-personal-tokens", "token-create-read-scope", "token-create-anon-401",
        "token-create-bad-scope-400", "token-create-for-other-user-403", "token-list-by-description", "me-token",
        "me-token-read-scope", "token-delete-204", "token-delete-404", "missing-slash", "not-found-path-404",
        "not-found-object-404", "method-not-allowed-405", "not-acceptable-xml", "inventory-alias-path",
    ]),
    Say(&[
        "wfjt-by-id", "wfjt-by-id-no-rights-403", "wfjt-by-name", "wfjt-by-name-case", "wfjt-by-name-no-rights",
        "wfjt-by-name-none", "wfjt-by-name-read-only", "wfjt-launch-get", "wfjt-launch-get-survey",
        "wfjt-name-with-odd-characters", "wfjt-survey-spec", "wfjt-survey-spec-none", "filter-unknown-field-400",
        "filter-bad-id-400", "jt-by-name", "jt-by-name-no-inventory", "jt-by-name-yaml-vars", "jt-launch-get",
        "inventory-by-id-filter", "inventory-by-id-filter-hidden", "inventory-by-id-filter-none", "inventory-by-name",
        "inventory-detail-hidden-403", "inventory-list", "inventory-list-kind-empty", "inventory-search-case",
        "inventory-search-description", "inventory-search-none", "inventory-search-one", "inventory-search-two",
        "hosts-by-name", "hosts-by-name-none", "inventory-hosts", "host-variable-data", "host-facts-empty",
        "host-facts-404", "host-facts-no-rights-403", "label-create-201", "label-create-duplicate-400",
        "label-create-no-org-403", "label-create-other-org-403", "label-by-name",
    ]),
    Launch("jt-deploy", "{}", 1),
    End(1),
    Say(&["job-cancel-finished-admin-405"]),
    Say(&[
        "wf-launch-ok-201", "wf-ok-poll-1-pending", "wf-ok-poll-2-running", "wf-ok-poll-3-successful", "wf-ok-nodes",
        "wf-ok-child-jt-deploy", "wf-ok-child-jt-finalize", "wf-jobs-related-by-id", "unified-jobs-by-id",
    ]),
    Say(&[
        "wf-launch-fail-201", "wf-fail-poll-1-pending", "wf-fail-poll-2-running", "wf-fail-poll-3-failed", "wf-fail-nodes",
        "wf-nodes-page-size", "wf-fail-child-jt-deploy", "wf-fail-child-jt-fail", "job-events-of-failed",
        "job-events-order-by-counter", "job-events-failed-filter", "job-events-page-2", "job-host-summaries",
        "job-stdout-default", "job-stdout-html", "job-stdout-txt", "job-stdout-ansi", "job-stdout-json",
        "job-stdout-txt_download", "job-stdout-accept-json", "job-stdout-accept-text", "wf-job-labels",
        "wf-job-no-rights-403", "wf-job-404", "job-404",
    ]),
    Say(&[
        "jt-launch-fail-201", "jt-fail-poll-1-pending", "jt-fail-poll-2-running", "jt-fail-poll-3-failed",
        "jt-fail-poll-4-failed", "jt-launch-ok-dict-extra-vars-201", "jt-ok-poll-1-pending", "jt-ok-poll-2-running",
        "jt-ok-poll-3-successful", "jt-launch-ignored-201", "jt-launch-labels-201", "job-labels", "wf-launch-labels-201",
        "wf-empty-poll-1-pending", "wf-empty-poll-2-successful", "wf-empty-nodes", "wf-launch-hidden-default-inventory",
        "wf-launch-no-inventory", "wf-launch-unknown-key-201",
    ]),
    Say(&[
        "wf-launch-nested-201", "wf-nested-nodes", "wf-nested-child-deploy-vm", "wf-nested-inner-nodes",
        "wf-nested-child-jt-lists",
    ]),
    Say(&[
        "bad-json-400", "unsupported-media-415", "wf-launch-404", "wf-launch-anon-401", "wf-launch-body-list-400",
        "wf-launch-extra-vars-garbage-400", "wf-launch-extra-vars-list-400", "wf-launch-inventory-absent-400",
        "wf-launch-inventory-hidden-403", "wf-launch-inventory-string-400", "wf-launch-label-absent-400",
        "wf-launch-label-not-list-400", "wf-launch-no-rights-403", "wf-launch-not-prompted-all-400",
        "wf-launch-not-prompted-inventory-400", "wf-launch-not-prompted-labels-400", "wf-launch-not-prompted-vars-400",
        "wf-launch-read-only-403", "launch-read-token-403", "wf-launch-survey-bad-choice-400",
        "wf-launch-survey-bad-type-400", "wf-launch-survey-missing-400", "wf-launch-survey-missing-one-400",
        "wf-launch-survey-short-400", "jt-launch-no-inventory-400", "jt-launch-read-only-403",
        "jt-launch-survey-missing-400",
    ]),
    Launch("jt-sleep", "{\"seconds\": 30}", 28),
    Begin(28),
    Say(&["job-cancel-get", "job-cancel-202", "job-canceled-poll-1-canceled", "job-cancel-finished-403"]),
    Launch("slow", "{\"seconds\": 30}", 29),
    Say(&[
        "wf-canceled-poll-1-running", "wf-running-nodes", "wf-launch-second-201", "wf-second-blocked", "wf-cancel-202",
        "wf-canceled-poll-2-canceled", "wf-canceled-nodes",
    ]),
    // The second launch was canceled as well, before it had begun.
    Say(&["wf-canceled-pending-poll-1-canceled"]),
    Launch("jt-deploy", "{}", 32),
    Project(true),
    Say(&["job-error-poll-1-pending", "job-error-poll-2-running", "job-error-poll-3-error", "job-error-events", "job-error-stdout"]),
    Say(&[
        "wf-launch-error-201", "wf-error-poll-1-pending", "wf-error-poll-2-running", "wf-error-poll-3-failed",
        "wf-error-nodes", "wf-error-child-jt-deploy", "wf-error-child-jt-remove",
    ]),
    Project(false),
    Launch("jt-broken", "{}", 36),
    Say(&[
        "job-broken-poll-1-pending", "job-broken-poll-2-running", "job-broken-poll-3-failed", "job-broken-poll-4-failed",
        "job-broken-events", "job-broken-stdout",
    ]),
    Launch("jt-sleep", "{\"seconds\": 30}", 37),
    Say(&["job-worker-killed-poll-1-running"]),
    Kill,
    Say(&["job-worker-killed-poll-2-failed"]),
    Timeout("jt-sleep", 3),
    Launch("jt-sleep", "{\"seconds\": 30}", 38),
    Say(&["job-timeout-poll-1-pending", "job-timeout-poll-2-running", "job-timeout-poll-3-failed"]),
    Timeout("jt-sleep", 0),
    Launch("jt-facts", "{}", 39),
    End(39),
    Say(&["host-facts", "host-detail"]),
    Launch("list-templates", "{}", 40),
    Say(&["wf-lists-nodes", "wf-lists-child"]),
    Launch("deploy-error", "{}", 42),
    Say(&["wf-broken-nodes", "wf-broken-child-jt-deploy", "wf-broken-child-jt-broken"]),
    Say(&[
        "login-1-get-api-csrf", "login-bad-password", "login-2-post-ok-302", "login-3-me-by-session",
        "login-4-token-by-session", "login-5-token-by-session-no-csrf-404", "login-6-post-by-session-no-csrf",
        "users-me-detail", "token-create-basic-by-username", "token-delete-by-list",
    ]),
    Say(&[
        "jt-launch-empty-body-201", "jt-wait-poll-1-waiting", "jt-wait-poll-2-running", "jt-wait-poll-3-successful",
        "jt-wait-poll-4-successful", "jt-launch-no-body-201", "jobs-related-by-id",
    ]),
    Say(&["wf-node-create-no-inventory-400", "wf-launch-same-inventory", "wf-launch-survey-extra-var-not-in-survey"]),
    Say(&["wf-launch-wide-201", "wf-wide-nodes-page-1", "wf-wide-nodes-page-2", "wf-wide-nodes-page-size-200"]),
];

/// Lists of templates, from before the last two were made.
pub(crate) const LISTS: &[Step] = &[Say(&[
    "wfjt-order-by", "wfjt-page-1-of-n", "wfjt-page-2-of-n", "wfjt-page-beyond-404", "wfjt-page-last", "wfjt-page-size-0",
    "wfjt-page-size-1000", "jt-page-size-1000",
])];

/// Pages of an inventory with 230 hosts.
pub(crate) const PAGES: &[Step] =
    &[Say(&["page-size-0-of-230", "page-size-1000-of-230", "page-size-odd-abc", "page-size-odd-empty"])];

/// Six workflow jobs that failed, of which the last is shown.
pub(crate) const FAILED: &[Step] = &[
    Launch("deploy-fail", "{}", 100),
    End(100),
    Launch("deploy-fail", "{}", 101),
    End(101),
    Launch("deploy-fail", "{}", 102),
    End(102),
    Launch("deploy-fail", "{}", 103),
    End(103),
    Launch("deploy-fail", "{}", 104),
    End(104),
    Launch(
        "deploy-fail",
        "{\"workflow\": \"deploy-fail\", \"_broker_origin\": \"broker_cli:root\", \"_broker_extra_vars\": {\"workflow\": \
         \"deploy-fail\", \"_broker_origin\": \"broker_cli:root\"}}",
        105,
    ),
    End(105),
    Say(&["workflow-jobs-by-status"]),
];
