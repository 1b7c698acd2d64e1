"""Commands that make the inputs of cells: corpus, checkpoints, prepared tasks, adapters."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import (
    AllSplits,
    Out,
    SaveMinutes,
    device,
    importing,
    placed_list,
    settings_of,
    settings_option,
    task_of,
    training_states,
    write_manifest,
)
from affectlocus.core.cache_key import cache_key
from affectlocus.core.errors import InputError

if TYPE_CHECKING:
    from affectlocus.config.corpus import PlacedBase


def corpus(
    settings: Annotated[
        str,
        settings_option(
            "seed, documents, tuning_samples, control_samples, benchmark_samples, answered"
        ),
    ],
    out: Out,
) -> None:
    """Generate the embedded corpus: pre-training text, training sets, eight small benchmarks.

    Writes a folder with pretraining.txt (a document a line) and a csv for each task.

    Example: affectlocus corpus --settings '{"benchmark_samples": 50}' --out corpus
    """
    from affectlocus.config.corpus import Corpus
    from affectlocus.data.corpus import write_corpus

    write_corpus(settings_of(Corpus, settings), out)


def senses(
    settings: Annotated[str, settings_option("seed, people, tuning_samples, benchmark_samples")],
    out: Out,
) -> None:
    """Generate tasks in which each sample has a text, a drawn face and a synthetic voice.

    Writes a folder with a csv for each task, which names the files in its folders faces and voices.

    Example: affectlocus senses --settings '{"benchmark_samples": 50}' --out senses
    """
    from affectlocus.config.corpus import Senses
    from affectlocus.data.senses import write_senses

    write_senses(settings_of(Senses, settings), out)


def retrieve(
    source: Annotated[
        str,
        typer.Argument(
            help="a folder in the Hugging Face layout or a file of weights, a hub id (owner/name), "
            "or an http(s) URL, in which ${NAME} is replaced by an environment variable"
        ),
    ],
    out: Out,
    revision: Annotated[
        str | None,
        typer.Option(help="of a hub id: a commit's 40 hex digits; a branch is pinned in --lock"),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="of a URL: the file's SHA-256")] = None,
    package_file: Annotated[
        str | None,
        typer.Option(
            help="config.json of a model in an installed package; * and ? match any characters; "
            "SOURCE is then the package and its version, NAME==VERSION"
        ),
    ] = None,
    lock: Annotated[
        Path, typer.Option(help="json of the commits that branches are pinned to")
    ] = Path("checkpoints.lock.json"),
    file: Annotated[
        str | None,
        typer.Option(
            help="file of a data set on the hub to download; SOURCE is then the id of the data set"
        ),
    ] = None,
) -> None:
    """Retrieve a checkpoint: download missing files, verify them, and write a manifest.

    Interrupted downloads resume. Files are verified by their hashes and stored in HF_HOME.
    HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are respected.

    Example: affectlocus retrieve Qwen/Qwen2.5-0.5B --revision main --out results/checkpoints/q.json
    """
    from affectlocus.core.files import write_json
    from affectlocus.core.output_files import check_output

    check_output(out)
    if file is not None:
        from affectlocus.data.sources import retrieve_table

        if revision is None:
            raise InputError(
                "data.no-revision",
                f"{source}: --revision is missing; --file needs the data set's revision",
                option="--revision",
                found=source,
            )
        write_json(out, retrieve_table(source, revision, file, lock))
        return
    from affectlocus.data.retrieve import retrieve as run

    write_json(out, run(source, revision, sha256, lock, package_file))


def wheels(
    out: Annotated[Path, typer.Option(help="folder of the seven files; replaced whole")],
    host: Annotated[
        str | None, typer.Option(help="a mirror of AffectGPT's files, by commit  [default: GitHub]")
    ] = None,
) -> None:
    """Retrieve AffectGPT's emotion wheels: download missing files, and verify them.

    `score --wheels` takes the folder, so that jobs need no network. Downloads are stored in
    HF_HOME.

    Example: affectlocus wheels --out wheels
    """
    from affectlocus.scoring.wheels import HOST, download_folder

    download_folder(out, host or HOST)


def pretrain(
    text: Annotated[Path, typer.Option(help="pretraining.txt of a corpus, a document a line")],
    settings: Annotated[
        str,
        settings_option(
            "architecture, hidden_size, intermediate_size, layers, heads, kv_heads, "
            "sliding_window, initializer_range, steps, batch_size, learning_rate, beta2, "
            "group_by_length, seed"
        ),
    ],
    folder: Annotated[Path | None, typer.Option(help="folder to write the checkpoint into")] = None,
    out: Annotated[Path | None, typer.Option(help="manifest to write")] = None,
    bases: Annotated[
        str | None,
        typer.Option(
            help="in place of --folder and --out: JSON list of bases, each with folder, out and "
            "the keys of --settings in which it differs"
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(help="CPU threads; the result depends on their number")
    ] = 1,
    save_minutes: SaveMinutes = None,
    again: Annotated[
        bool, typer.Option("--again", help="train it even if the package holds this base")
    ] = False,
) -> None:
    """Pre-train a tiny base (Qwen2, LLaMA or Mistral) and save it in the Hugging Face layout.

    Writes the checkpoint's folder and a manifest (--out) with its perplexity on held-out text. The
    bases of the embedded default are part of the package, so that every machine has the same ones;
    they are copied. A trained base is also stored in AFFECTLOCUS_CACHE (by default affectlocus in
    the user's cache folder; if empty, nowhere), where any experiment with the same recipe and text
    finds it. Several bases share one process; each has the same numbers as alone. After a kill,
    SIGTERM or Ctrl-C, the same command resumes from the last saved state.

    Example: affectlocus pretrain --text corpus/pretraining.txt
    --settings '{"architecture": "llama", "steps": 200}' --folder checkpoints/llama --out llama.json
    """
    from affectlocus.config.corpus import BaseList, Pretraining
    from affectlocus.core.files import check_whole, sha256
    from affectlocus.core.output_files import check_output, replacing
    from affectlocus.training.shipped import shipped_base

    placed: list[PlacedBase] = placed_list(
        Pretraining, BaseList, settings, "--bases", bases, folder, out
    )
    for one in placed:
        check_output(Path(one.out))
    if text.name == "pretraining.txt":
        check_whole(text)
    content = sha256(text)
    for one in placed:
        place, recipe = Path(one.folder), one.recipe
        if not again and (base := shipped_base(recipe, content)) is not None:
            with replacing(place, "pretrain", inputs=[text]) as temporary:
                base.copy(temporary)
            write_manifest(Path(one.out), place, kind="model", shipped=base.name, **base.measured)
            continue
        with importing():
            import torch

            from affectlocus.orchestration.code_digest import digest
            from affectlocus.training.pretrain import pretrain as run
            from affectlocus.training.pretrained_cache import cached

        torch.set_num_threads(threads)
        name = cache_key(
            recipe=recipe.model_dump(mode="json"),
            text=content,
            code=digest("pretrain"),
            machine=device(),
            threads=threads,
        )
        with replacing(place, "pretrain", inputs=[text]) as temporary:
            states = training_states(
                "pretrain",
                place,
                save_minutes,
                recipe=recipe.model_dump(),
                text=text,
                threads=threads,
            )
            measured = cached(
                name,
                temporary,
                partial(run, text, recipe, states=states),
                lambda said: typer.echo(f"note: {said}", err=True),
            )
        write_manifest(Path(one.out), place, kind="model", **measured)
        states.remove()


def encoders(
    settings: Annotated[
        str,
        settings_option(
            "architecture, hidden_size, layers, heads, examples, steps, batch_size, learning_rate, "
            "seed"
        ),
    ],
    folder: Annotated[Path, typer.Option(help="folder to write the encoder into")],
    out: Annotated[Path, typer.Option(help="manifest to write")],
    threads: Annotated[
        int, typer.Option(help="CPU threads; the result depends on their number")
    ] = 1,
    again: Annotated[
        bool, typer.Option("--again", help="make it even if the package holds this encoder")
    ] = False,
) -> None:
    """Make a tiny encoder of faces or voices and save it in the Hugging Face layout.

    A CLIP vision tower is trained on drawn faces, without labels of affect: it predicts who the
    person is, how the picture was taken, and the same face in a standard view. A HuBERT has the
    initial weights of the seed. The encoders of experiments/senses are part of the package, so that
    every machine has the same ones; they are copied.

    Example: affectlocus encoders --settings '{"architecture": "clip", "steps": 800}'
    --folder encoders/face --out face.json
    """
    from affectlocus.config.encoder_recipes import EncoderRecipe
    from affectlocus.core.output_files import check_output, replacing

    recipe = settings_of(EncoderRecipe, settings)
    check_output(out)
    with importing():
        import torch

        from affectlocus.training.shipped_encoders import shipped_encoder
        from affectlocus.training.tiny_encoders import fingerprint
        from affectlocus.training.tiny_encoders import make_encoder as run

    torch.set_num_threads(threads)
    shipped = None if again else shipped_encoder(recipe, fingerprint(recipe))
    with replacing(folder, "encoders") as temporary:
        if shipped is not None:
            shipped.copy(temporary)
            about: dict[str, Any] = {"shipped": shipped.name, **shipped.measured}
        else:
            about = run(recipe, temporary)
    write_manifest(out, folder, kind="encoder", **about)


def prepare(
    name: Annotated[str, typer.Option(help="the task's name, for messages")],
    settings: Annotated[
        str,
        settings_option(
            "domain, columns, labels, label_separator, unlisted_labels, duplicate_ids, prompt, "
            "context, subset, overlap_limit, header, delimiter, pattern, encoding, rename, split, "
            "join, number, positive, fluency, media, absent, files, awaited, preset, root, corpus"
        ),
    ],
    out: Out,
    report: Annotated[Path, typer.Option(help="json of rows read, kept, left out, overlapping")],
    train: Annotated[Path | None, typer.Option(help="file of the train split")] = None,
    validation: Annotated[Path | None, typer.Option(help="file of the validation split")] = None,
    test: Annotated[Path | None, typer.Option(help="file of the test split")] = None,
    all_splits: AllSplits = None,
    join: Annotated[Path | None, typer.Option(help="the file of the settings' join")] = None,
    media: Annotated[
        list[Path] | None,
        typer.Option(
            help="index of the features of a medium of the settings, MEDIUM.parquet as encode "
            "writes it; repeat for each medium"
        ),
    ] = None,
) -> None:
    """Read a task's files (csv, tsv, jsonl, parquet) into one table of prompts and answers.

    The options name the files; the settings need not name them again.

    Example: affectlocus prepare --name mine --train train.csv --test test.csv
    --settings mine.yaml --out mine.parquet --report mine.json
    """
    from affectlocus.core.files import write_json
    from affectlocus.data.prepare import prepare as run
    from affectlocus.data.prepared_task import PreparedTask
    from affectlocus.data.sample_files import read_indexes

    splits = {"train": train, "validation": validation, "test": test, "all": all_splits}
    task, files = task_of(settings, splits, join)
    indexes = read_indexes(media or [])
    if without := [medium for medium in task.media if medium not in indexes]:
        raise InputError(
            "prepare.no-index",
            f"task {name} has the medium {without[0]}; give --media {without[0]}.parquet, which "
            "encode writes",
            task=name,
            option="--media",
            expected=without[0],
        )
    samples, found = run(name, task, files, {medium: indexes[medium] for medium in task.media})
    PreparedTask(name, task.words, samples).write(out)
    write_json(report, found)
