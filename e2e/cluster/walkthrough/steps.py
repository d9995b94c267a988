"""The walk-through as data: what a reader is told, what is run, and what must come of it."""

from dataclasses import dataclass, field

NAMESPACE = "llm"
URL = f"http://pointsman-router.{NAMESPACE}.svc.cluster.local/v1"
MODEL = "harbour-70b"
SAMPLE = "manifests/samples/simulated-disaggregated.yaml"
SCRIPTS = "e2e/cluster/walkthrough"


@dataclass(frozen=True, slots=True)
class Step:
    """One command as a reader would type it."""

    run: str
    expect: tuple[str, ...] = ()
    """Regular expressions that its output must match, asked again until they do."""
    never: str = ""
    """A regular expression that its output must not match."""
    fails: bool = False
    """Whether it must end with an error."""
    shown_lines: int = 40


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what is said below it, and its commands; with `streams`, under load that must not lose a request."""

    title: str
    text: str
    steps: tuple[Step, ...]
    streams: int = 0
    extra: dict[str, str] = field(default_factory=dict)


def refused(change: str, *expect: str) -> Step:
    """A change to the sample that the API server must refuse."""
    return Step(
        f"kubectl --namespace {NAMESPACE} patch modelservice harbour --type=json --patch '{change}'",
        expect,
        fails=True,
    )


SECTIONS: tuple[Section, ...] = (
    Section(
        "Install",
        "One release serves the ModelServices of its namespace. `values.yaml` names images where the cluster cannot pull the"
        " chart's own, and lets everyone ask for explanations.",
        (
            Step("cat values.yaml"),
            Step(
                f"helm install pointsman charts/pointsman --namespace {NAMESPACE} --create-namespace --values values.yaml",
                (r"STATUS: deployed", rf"http://pointsman-router\.{NAMESPACE}\.svc/v1"),
            ),
        ),
    ),
    Section(
        "Serve a model",
        "A ModelService says which model, which engine, and how many instances in which pools:",
        (
            Step(f"cat {SAMPLE}", shown_lines=60),
            Step(
                f"kubectl --namespace {NAMESPACE} apply -f {SAMPLE}",
                (r"modelservice.pointsman.io/harbour created",),
            ),
            Step(
                f"python {SCRIPTS}/first_token.py {URL} {MODEL} $BEGAN",
                (r"first token \d+ s after helm install began",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} wait --for=condition=Ready modelservice/harbour --timeout=120s",
                (r"condition met",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} get pointsman,deploy,po",
                (
                    r"harbour-prefill\s+harbour\s+prefill",
                    r"harbour-decode\s+harbour\s+decode",
                    r"modelservice.pointsman.io/harbour\s+harbour-70b\s+simulated\s+3/3\s+True",
                    r"pointsman-operator\s+2/2",
                    r"pointsman-router\s+2/2",
                ),
            ),
            Step(f"helm test pointsman --namespace {NAMESPACE}", (r"Succeeded",)),
        ),
    ),
    Section(
        "Chat",
        "The `openai` package against the router's Service. Outside of the cluster's network, `kubectl port-forward` first."
        " The decision says which instance computes the prompt, and which one generates the answer:",
        (
            Step(
                f"python {SCRIPTS}/chat.py {URL} {MODEL}",
                (r"48 tokens", r"prefill", r"decode"),
            ),
        ),
    ),
    Section(
        "Look it up",
        "Every field explains itself.",
        (
            Step(
                "kubectl explain modelservice.spec.pools",
                (r"accelerators", r"Pools of instances", r"replicas"),
            ),
        ),
    ),
    Section(
        "Scale under load",
        "Eight streams all the while. Instances that go away end their answers first.",
        (
            Step(
                f"kubectl --namespace {NAMESPACE} scale instancepool harbour-decode --replicas=3",
                (r"scaled",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} wait --for=jsonpath='{{.status.readyReplicas}}'=3"
                " instancepool/harbour-decode --timeout=120s",
                (r"condition met",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} scale instancepool harbour-decode --replicas=1",
                (r"scaled",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} wait --for=jsonpath='{{.status.replicas}}'=1"
                " instancepool/harbour-decode --timeout=180s",
                (r"condition met",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} get instancepools",
                (r"harbour-decode\s+harbour\s+decode\s+\S+\s+1\s+1\s+1",),
            ),
        ),
        streams=8,
    ),
    Section(
        "Change the engines under load",
        "Other arguments mean other engines: a new one first, then the old one is drained and goes, one by one.",
        (
            Step(
                f"kubectl --namespace {NAMESPACE} patch modelservice harbour --type=merge"
                """ --patch '{"spec":{"engine":{"args":["--max-sequences=64"]}}}'""",
                (r"patched",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} wait --for=jsonpath='{{.status.updatedReplicas}}'=1"
                " instancepool/harbour-decode --timeout=180s",
                (r"condition met",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} get pods --selector=pointsman.io/model-service=harbour"
                " --output=custom-columns=NAME:.metadata.name,ARGS:.spec.containers[0].args",
                (r"harbour-decode\S+\s+.*--max-sequences=64", r"harbour-prefill\S+\s+.*--max-sequences=64"),
                never=r"(?m)^harbour-(?!.*--max-sequences=64)",
            ),
        ),
        streams=8,
    ),
    Section(
        "A change that does not work",
        "Engines that never become ready replace nothing: what serves goes on, and after the deadline the change is taken back."
        " The ModelService says so until it is changed again.",
        (
            Step(
                f"kubectl --namespace {NAMESPACE} patch modelservice harbour --type=merge --patch"
                """ '{"spec":{"rollout":{"progressDeadlineSeconds":20},"engine":{"args":["--no-such-argument"]}}}'""",
                (r"patched",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} wait --for=condition=Degraded instancepool/harbour-decode --timeout=180s",
                (r"condition met",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} get instancepool harbour-decode"
                " --output=jsonpath='{.status.conditions[?(@.type==\"Degraded\")]}'",
                (r"RolledBack", r"halted and rolled back"),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} get pods --selector=pointsman.io/model-service=harbour",
                (r"harbour-decode\S+\s+1/1\s+Running", r"harbour-prefill\S+\s+1/1\s+Running"),
                never=r"CrashLoopBackOff|Error",
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} patch modelservice harbour --type=merge"
                """ --patch '{"spec":{"engine":{"args":["--max-sequences=64"]}}}'""",
                (r"patched",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} wait --for=condition=Degraded=False modelservice/harbour --timeout=120s",
                (r"condition met",),
            ),
        ),
        streams=8,
    ),
    Section(
        "What the API server refuses",
        "A slip is told at once, and by its name.",
        (
            refused(
                '[{"op":"replace","path":"/spec/pools/1/role","value":"decoder"}]',
                r"spec\.pools\[1\]\.role",
                r"decoder",
            ),
            refused('[{"op":"replace","path":"/spec/pools/1/role","value":"prefill"}]', r"prefill"),
            refused(
                '[{"op":"add","path":"/spec/pools/1/autoscaling","value":{"maxReplicas":4}}]',
                r"spec\.pools\[1\]",
            ),
            refused('[{"op":"replace","path":"/spec/engine/connector","value":"none"}]', r"connector"),
            refused('[{"op":"replace","path":"/spec/engine/type","value":"vllm"}]', r"image is required"),
        ),
    ),
    Section(
        "Upgrade",
        "Generated passwords and keys stay what they are.",
        (
            Step(
                f"helm upgrade pointsman charts/pointsman --namespace {NAMESPACE} --values values.yaml --set router.replicas=3",
                (r"REVISION: 2",),
            ),
            Step(
                f"kubectl --namespace {NAMESPACE} rollout status deployment/pointsman-router",
                (r"successfully rolled out",),
            ),
        ),
        streams=4,
    ),
    Section(
        "Clear up",
        "What the operator made goes with the ModelService; `helm uninstall` leaves the definitions, so that ModelServices of"
        " other releases live on.",
        (
            Step(f"kubectl --namespace {NAMESPACE} delete modelservice harbour", (r"deleted",)),
            Step(
                f"kubectl --namespace {NAMESPACE} get instancepools,deployments --selector=app.kubernetes.io/managed-by=pointsman",
                (r"No resources found",),
            ),
            Step(f"helm uninstall pointsman --namespace {NAMESPACE} --wait", (r"uninstalled",)),
            Step(
                f"kubectl --namespace {NAMESPACE} get all,secrets,configmaps,roles,leases", never=r"pointsman"
            ),
            Step(
                "kubectl get crds",
                (
                    r"modelservices\.pointsman\.io",
                    r"instancepools\.pointsman\.io",
                    r"engineprofiles\.pointsman\.io",
                ),
            ),
        ),
    ),
)
