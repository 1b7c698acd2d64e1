"""The polarity of emotion words: positive, negative or neutral, by this package's own lists.

The lists contain common words in English and Chinese. Other words have no polarity.
"""

from __future__ import annotations

from collections.abc import Sequence


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


POSITIVE = _listed(
    """
    positive happy happiness joy joyful joyous cheerful delighted delight pleased pleasant glad
    excited excitement enthusiastic enthusiasm content contented contentment satisfied satisfaction
    proud pride relieved relief grateful gratitude thankful hopeful hope optimistic optimism love
    loving affection affectionate caring amused amusement admiration admiring approval approving
    calm relaxed peaceful serene confident confidence inspired interested friendly warm encouraging
    supportive playful touched moved eager thrilled ecstatic elated
    积极 正面 高兴 开心 快乐 喜悦 愉快 兴奋 激动 满意 满足 自豪 骄傲 感激 感动 期待 希望 乐观
    喜欢 爱 热情 轻松 平静 放松 自信 欣慰 幸福 欣赏 友好
    """
)
NEGATIVE = _listed(
    """
    negative sad sadness unhappy sorrow sorrowful grief grieving depressed depression gloomy
    miserable hurt heartbroken lonely disappointed disappointment dejected hopeless despair
    desperate angry anger furious rage annoyed annoyance irritated irritation irritable frustrated
    frustration resentful resentment hostile outraged indignant impatient jealous afraid fear
    fearful scared frightened terrified anxious anxiety nervous nervousness worried worry uneasy
    tense tension stressed stress panic insecure disgust disgusted contempt contemptuous
    disapproval disapproving dissatisfied dissatisfaction embarrassed embarrassment ashamed shame
    guilty guilt remorse regret upset troubled distressed helpless confused pessimistic pessimism
    bored tired bitter
    消极 负面 难过 悲伤 伤心 痛苦 沮丧 抑郁 失望 绝望 孤独 委屈 生气 愤怒 恼火 烦躁 不满 不耐烦
    厌恶 讨厌 反感 害怕 恐惧 惊恐 担心 担忧 焦虑 紧张 不安 尴尬 羞愧 内疚 后悔 无奈 无助 困惑
    悲观 不高兴 不开心 疲惫
    """
)
NEUTRAL = _listed("neutral neutrality indifferent indifference objective 中性 中立 平淡 客观")


def valence(words: Sequence[str]) -> str | None:
    """positive or negative, whichever has more words; None if no word is in the lists.

    With equally many positive and negative words, the first of them decides. The result is neutral
    only if there are neutral words and neither positive nor negative ones.
    """
    polar = [
        "positive" if word in POSITIVE else "negative"
        for word in words
        if word in POSITIVE or word in NEGATIVE
    ]
    if polar:
        return max(dict.fromkeys(polar), key=polar.count)
    return "neutral" if any(word in NEUTRAL for word in words) else None
